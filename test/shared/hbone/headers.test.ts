import fc from 'fast-check';
import { test } from 'tap';
import { formatAuthority, parseAuthority } from '#shared/hbone/authority.ts';
import { type Baggage, formatBaggage, parseBaggage, WORKLOAD_TYPES } from '#shared/hbone/baggage.ts';
import { formatForwarded, forwardedFor, forwardedHost } from '#shared/hbone/forwarded.ts';

test('authority', (t) => {
  const cases: [text: string, result: unknown][] = [
    ['10.0.0.1:8080', { kind: 'ip', address: { ip: '10.0.0.1', port: 8080 } }],
    ['[fd00::0:1]:80', { kind: 'ip', address: { ip: 'fd00::1', port: 80 } }],
    ['[::ffff:10.0.0.1]:80', { kind: 'ip', address: { ip: '10.0.0.1', port: 80 } }],
    ['Shop.default.svc.cluster.local:80', { kind: 'host', host: 'shop.default.svc.cluster.local', port: 80 }],
    ['my_host:1', { kind: 'host', host: 'my_host', port: 1 }],
    ...[
      '',
      ':80',
      'a',
      'a:',
      'a:0',
      'a:65536',
      'a:+1',
      'a:1:2',
      'fd00::1:80',
      '[10.0.0.1]:80',
      '[a]:80',
      '[fd00::1]',
      '1.2.3:80',
      '1.2.3.256:80',
    ].map((text): [string, unknown] => [text, undefined]),
    ...['a b:80', 'user@a:80', 'a/b:80', 'a..b:80', '-a:80', `${'a'.repeat(254)}:80`].map((text): [string, unknown] => [
      text,
      undefined,
    ]),
  ];
  for (const [text, result] of cases) t.same(parseAuthority(text), result, JSON.stringify(text));
  fc.assert(
    fc.property(
      fc.oneof(
        fc.ipV4(),
        fc.ipV6().map((ip) => `[${ip}]`),
        fc.domain(),
      ),
      fc.integer({ min: 1, max: 65_535 }),
      (host, port) => {
        const parsed = parseAuthority(`${host}:${port}`);
        if (!parsed) throw new Error(`${host}:${port} refused`);
        t.strictSame(parseAuthority(formatAuthority(parsed)), parsed);
      },
    ),
    { numRuns: 50 },
  );
  t.end();
});

test('baggage', (t) => {
  const all: Baggage = {
    cluster: 'Kubernetes',
    namespace: 'shop',
    workloadType: 'deployment',
    workloadName: 'cart',
    service: 'cart',
    revision: 'v1',
    region: 'r1',
    zone: 'z1',
  };
  const text =
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,service.version=v1,' +
    'cloud.region=r1,cloud.availability_zone=z1';
  t.equal(formatBaggage(all), text);
  t.same(parseBaggage([['baggage', text]]), all);
  t.equal(formatBaggage({ service: '', namespace: 'shop' }), 'k8s.namespace.name=shop');
  t.equal(formatBaggage({}), '');
  t.same(parseBaggage([['x', 'service.name=no']]), {});
  const merged = parseBaggage([
    ['baggage', 'unknown=1, service.name = cart ;prop=2,,=,x,k8s.job.name=sum'],
    ['baggage', 'cloud.region=,k8s.namespace.name=shop'],
  ]);
  t.same(
    merged,
    { service: 'cart', workloadType: 'job', workloadName: 'sum', namespace: 'shop' },
    'headers merge, empty values are unset',
  );
  t.equal(parseBaggage([['baggage', `service.name=${'x'.repeat(10_000)}`]]).service?.length, 253, 'a peer fills no log line');
  for (const workloadType of WORKLOAD_TYPES) {
    const one: Baggage = { workloadType, workloadName: 'w' };
    t.same(parseBaggage([['baggage', formatBaggage(one)]]), one);
  }
  t.end();
});

test('forwarded', (t) => {
  t.equal(formatForwarded({ ip: '10.0.0.1', port: 5 }), 'for="10.0.0.1:5"');
  const both = formatForwarded({ ip: 'fd00::1', port: 5 }, 'shop.svc');
  t.equal(both, 'for="[fd00::1]:5";host=shop.svc');
  t.equal(forwardedHost(both), 'shop.svc');
  t.equal(forwardedFor(both), '[fd00::1]:5');
  t.equal(forwardedHost('for=a;Host="A.B", host=c'), 'a.b', 'the first one, unquoted');
  for (const none of ['', 'for=a', 'host=', 'host=""', 'host=caf\u00e9', 'ghost=a'])
    t.equal(forwardedHost(none), undefined, none);
  t.end();
});
