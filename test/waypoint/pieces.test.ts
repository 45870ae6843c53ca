// The small pure parts: path normalisation, protocol detection, endpoint choice, access log.
import { test } from 'tap';
import { fullMatch, Path } from '../../waypoint/xds/strict.ts';
import fc from 'fast-check';
import type { Endpoint } from '../../waypoint/cluster/cluster.ts';
import { createPicker } from '../../waypoint/cluster/picker.ts';
import { normalizePath } from '../../waypoint/http/path.ts';
import { Headers } from '../../waypoint/http/request.ts';
import { detect } from '../../waypoint/listener/detect.ts';
import { formatAccessLog } from '../../waypoint/telemetry/access-log.ts';
import { newRecord } from '../../waypoint/telemetry/record.ts';

test('path normalisation', async (t) => {
  const cases: [string, string | undefined][] = [
    ['/', '/'],
    ['/a/b?c=../d', '/a/b?c=../d'],
    ['/a/../b', '/b'],
    ['/a/./b', '/a/b'],
    ['/../../etc', '/etc'],
    ['/a/%2e%2E/b', '/b'],
    ['/a\\..\\b', '/b'],
    ['/%41', '/A'],
    ['/a%2fb', '/a%2Fb'],
    ['/a/..', '/'],
    ['/.well-known/x', '/.well-known/x'],
    ['*', '*'],
    ['/%zz', undefined],
    ['/%00', undefined],
    ['no-slash', undefined],
  ];
  for (const [path, expected] of cases) t.equal(normalizePath(path), expected, path);
  fc.assert(
    fc.property(fc.array(fc.constantFrom('a', '.', '..', '%2e', '%2E%2e', '', 'b')), (segments) => {
      const normal = normalizePath(`/${segments.join('/')}`);
      if (normal === undefined) throw new Error('refused');
      return !normal.split('/').includes('..') && normalizePath(normal) === normal;
    }),
  );
});

test('protocol detection waits for what it needs and no longer', async (t) => {
  const of = (text: string): unknown => detect(Buffer.from(text, 'latin1'));
  t.equal(of('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), 'http2');
  t.equal(of('PRI * HT'), undefined);
  t.equal(of('GET / HTTP/1.1\r\n'), 'http1');
  t.equal(of('GE'), undefined);
  t.equal(of('PRICE /'), 'http1');
  t.equal(of('\u0016\u0003\u0001'), 'other');
  t.equal(of('*1\r\n$4\r\nPING\r\n'), 'other');
});

const endpoints = (weights: number[]): Endpoint[] =>
  weights.map((weight, index) => ({
    address: { kind: 'tcp', to: { ip: `10.0.0.${index}`, port: 80 } },
    weight,
    identity: undefined,
    workload: undefined,
    active: 0,
  }));

test('every balancer keeps to the weights, and has nothing to pick of nothing', async (t) => {
  for (const policy of ['round-robin', 'least-request', 'random'] as const) {
    const list = endpoints([1, 3]);
    const picker = createPicker(policy, list);
    let heavy = 0;
    for (let index = 0; index < 4000; index += 1) {
      const picked = picker.pick();
      if (picked === list[1]) heavy += 1;
    }
    // With nothing under way least-request takes the first of two draws.
    t.ok(Math.abs(heavy / 4000 - 0.75) < 0.05, `${policy}: ${heavy / 4000}`);
    t.equal(createPicker(policy, []).pick(), undefined);
  }
  const [busy, idle] = endpoints([1, 1]);
  if (!busy || !idle) return;
  busy.active = 100;
  const picker = createPicker('least-request', [busy, idle]);
  let chosen = 0;
  for (let index = 0; index < 1000; index += 1) if (picker.pick() === idle) chosen += 1;
  t.ok(chosen > 650, `the idle one is chosen whenever it is drawn: ${chosen}`);
});

test('a client cannot write into the access log', async (t) => {
  const connection = { peer: '', local: '', remote: { ip: '10.0.0.1', port: 1 }, destination: { ip: '10.0.0.2', port: 80 } };
  const headers = new Headers([['user-agent', 'x"\r\n[2026] "GET /fake HTTP/1.1" 200']]);
  const head = { method: 'GET', path: '/"\n', authority: 'a', scheme: 'http', protocol: 'HTTP/1.1' as const, headers };
  const line = formatAccessLog(newRecord(connection, {}, head, 0));
  t.equal(line.split('\n').length, 2);
  t.match(
    line,
    /^\[1970-01-01T00:00:00\.000Z\] "GET \/\\x22\\x0a HTTP\/1\.1" 0 - - - "-" 0 0 0 - "-" "x\\x22\\x0d\\x0a\[2026\]/u,
  );
});

test('an expression takes linear time whatever a client sends, or is refused', async (t) => {
  const started = performance.now();
  t.notOk(fullMatch('(a+)+', new Path()).test(`${'a'.repeat(40)}!`));
  t.notOk(fullMatch('/[^/]+/.*/x/.*/y/.*z', new Path()).test(`/a${'/x/y'.repeat(1000)}`));
  t.ok(performance.now() - started < 2000);
  for (const refused of ['(?=a)a', '(a)\\1', '(.{1,200}){1,200}', '\\p{L}+', '(?i)a'])
    t.throws(() => fullMatch(refused, new Path('regex')), { message: /regex/u }, refused);
  t.ok(fullMatch('/v[0-9]{1,3}/\\w+\\-x', new Path()).test('/v12/abc-x'));
  t.notOk(fullMatch('a|b', new Path()).test('ab'), 'the whole text');
});
