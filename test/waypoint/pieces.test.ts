// The small pure parts: path normalisation, protocol detection, endpoint choice, access log.
import { test } from 'tap';
import { fullMatch, Path } from '../../waypoint/xds/strict.ts';
import fc from 'fast-check';
import type { Endpoint } from '../../waypoint/cluster/cluster.ts';
import { createPicker } from '../../waypoint/cluster/picker.ts';
import { normalizePath } from '../../waypoint/http/path.ts';
import { Headers } from '../../waypoint/http/request.ts';
import { detect, DetectingStream } from '../../waypoint/listener/detect.ts';
import type { ByteStream, StreamHandler } from '#shared/reactor/api.ts';
import { FakeClock } from '#shared/clock.ts';
import { nextId } from '#shared/collections/id-table.ts';
import { Expiry, type Expiring } from '../../waypoint/expiry.ts';
import { AccessLog } from '../../waypoint/telemetry/access-log.ts';
import { LogLines } from '../../waypoint/telemetry/log-lines.ts';
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
    ['/a%2fb', '/a%2fb'],
    ['/a%2Fb%c3%A4', '/a%2Fb%c3%A4'],
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

test('a dot segment with parameters does not get around a policy on paths', async (t) => {
  const cases: [string, string][] = [
    ['/public/..;/private', '/private'],
    ['/public/..;a=b;c/private', '/private'],
    ['/a/%2e%2e;/b', '/b'],
    ['/a/.%2E;x/b', '/b'],
    ['/a/.;/b', '/a/b'],
    ['/a/..;', '/'],
    ['/a/.;', '/a/'],
    ['/a/b/..;/..;x/c?d=/..;', '/c?d=/..;'],
    ['/..;/x', '/x'],
    ['/a;x/b', '/a;x/b'],
    ['/a;x/../b', '/b'],
    ['/a/;/b', '/a/;/b'],
    ['/a/...;/b', '/a/...;/b'],
    ['/a/..x;/b', '/a/..x;/b'],
    ['/a/..%3b/b', '/a/..%3b/b'],
  ];
  for (const [path, expected] of cases) t.equal(normalizePath(path), expected, path);
});

test('what waits in the kernel when the detection timeout falls due is read first: a process that was held up is no silent client', async (t) => {
  const clock = new FakeClock();
  let handler: StreamHandler | undefined;
  const nothing = (): void => undefined;
  const stream: ByteStream = {
    start: (given) => void (handler = given),
    write: () => true,
    end: nothing,
    reset: nothing,
    pause: nothing,
    resume: nothing,
    buffered: 0,
  };
  const late = new DetectingStream(stream).detect(clock, 1000);
  clock.advance(1000);
  handler?.onData(Buffer.from('GET / HTTP/1.1\r\n'));
  t.equal(await late, 'http1');
  const silent = new DetectingStream(stream).detect(clock, 1000);
  clock.advance(1010);
  t.equal(await silent, 'other');
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
    label: `10.0.0.${index}:80`,
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

/** What an access log writes, at the latest when its patience ends. */
function linesOf(use: (log: AccessLog) => void): string {
  const clock = new FakeClock();
  let text = '';
  use(new AccessLog(new LogLines(clock, (lines) => void (text += Buffer.from(lines).toString('latin1')))));
  clock.advance(1000);
  return text;
}

test('access log lines keep their order and none is lost, however many', async (t) => {
  const connection = { peer: '', local: '', remote: { ip: 'fd00::1', port: 1 }, destination: { ip: '10.0.0.2', port: 80 } };
  const count = 1000;
  const text = linesOf((log) => {
    for (let index = 0; index < count; index += 1) {
      const record = newRecord(connection, {}, undefined, 1_700_000_000_000 + index);
      record.received = index * 7_000_000;
      record.details = 'x'.repeat(index);
      log.write(record);
    }
  });
  const lines = text.trimEnd().split('\n');
  t.equal(lines.length, count);
  for (const [index, line] of lines.entries()) {
    const details = index === 0 ? '-' : 'x'.repeat(index);
    const time = new Date(1_700_000_000_000 + index).toISOString();
    const expected = `[${time}] "- - -" 0 - ${details} - "-" ${index * 7_000_000} 0 0 - "-" "-" "-" "-" "-" - - 10.0.0.2:80 [fd00::1]:1 - -`;
    if (line !== expected) throw new Error(`${line}\n${expected}`);
  }
});

test('what expires does so in time, and not when its time was moved on', async (t) => {
  const clock = new FakeClock();
  const expiry = new Expiry(clock);
  const ended: string[] = [];
  const member = (name: string): Expiring => {
    const own = { id: nextId(), deadline: Infinity, onDeadline: () => void ended.push(name) };
    expiry.add(own);
    return own;
  };
  const [late, early, moved, gone] = [member('late'), member('early'), member('moved'), member('gone')];
  expiry.set(late, 60_000);
  expiry.set(early, 1000);
  expiry.set(moved, 1000);
  expiry.set(gone, 1000);
  clock.advance(900);
  expiry.set(moved, 1000);
  expiry.delete(gone);
  clock.advance(200);
  t.same(ended, ['early']);
  clock.advance(900);
  t.same(ended, ['early', 'moved']);
  clock.advance(60_000);
  t.same(ended, ['early', 'moved', 'late']);
});

test('a client cannot write into the access log', async (t) => {
  const connection = { peer: '', local: '', remote: { ip: '10.0.0.1', port: 1 }, destination: { ip: '10.0.0.2', port: 80 } };
  const headers = new Headers([['user-agent', 'x"\r\n[2026] "GET /fake HTTP/1.1" 200']]);
  const head = { method: 'GET', path: '/"\n', authority: 'a', scheme: 'http', protocol: 'HTTP/1.1' as const, headers };
  const line = linesOf((log) => log.write(newRecord(connection, {}, head, 0)));
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
