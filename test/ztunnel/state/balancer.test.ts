import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import type { WorkloadUid } from '#shared/ids.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { SharedNumbers } from '#shared/telemetry/shared-numbers.ts';
import { Balancer } from '../../../ztunnel/state/balancer.ts';
import { Ejections } from '../../../ztunnel/state/ejections.ts';
import { pickEndpoint } from '../../../ztunnel/state/load-balance.ts';
import type { Service, Workload } from '../../../ztunnel/state/model.ts';
import { aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

const service = aService('cart');
const source = aWorkload('web', { ips: ['10.0.0.1'] });

function endpoint(name: string, init: Parameters<typeof aWorkload>[1] = {}): Workload {
  return aWorkload(name, { ips: ['10.0.0.5'], services: { cart: {} }, ...init });
}

function setUp(...entries: (Workload | Service)[]) {
  const clock = new FakeClock();
  const metrics = new Metrics();
  const store = aStore(service, ...entries);
  const ejections = new Ejections(clock, metrics);
  const balancer = new Balancer(store, ejections);
  const pick = (of = service, from = source) =>
    pickEndpoint(store, { service: of, port: 80, dialled: '10.96.0.1', source: from, random: Math.random, balancer });
  /** Names of whom 100 picks fell on. */
  const picked = (of = service): string[] =>
    [...new Set(Array.from({ length: 100 }, () => pick(of)?.workload.name ?? 'none'))].sort();
  return { clock, metrics, store, ejections, balancer, pick, picked };
}

t.test('a plan is made once for a place and a port, and follows what changes', async (t) => {
  const { store, balancer, pick, picked } = setUp(endpoint('a'), endpoint('b'));
  t.strictSame(picked(), ['a', 'b']);
  const plan = balancer.plan({ service, port: 80, source });
  t.equal(balancer.plan({ service, port: 80, source: aWorkload('neighbour') }), plan);
  t.not(balancer.plan({ service, port: 81, source }), plan);
  t.not(balancer.plan({ service, port: 80, source: aWorkload('web', { node: 'node-2' }) }), plan);

  store.apply([{ kind: 'workload', workload: endpoint('c') }]);
  t.strictSame(picked(), ['a', 'b', 'c']);
  store.apply([{ kind: 'remove-address', name: endpoint('a').uid }]);
  store.apply([{ kind: 'workload', workload: endpoint('b', { status: 'Unhealthy' }) }]);
  t.strictSame(picked(), ['c']);
  store.apply([{ kind: 'workload', workload: endpoint('c', { services: {} }) }]);
  t.strictSame(picked(), ['none']);
  store.apply([{ kind: 'workload', workload: endpoint('b') }]);
  t.strictSame(picked(), ['b']);
  const strict = aService('cart', { loadBalancing: { mode: 'Strict', preferences: ['CLUSTER'], health: 'OnlyHealthy' } });
  store.apply([
    { kind: 'service', service: strict },
    { kind: 'workload', workload: endpoint('b', { clusterId: 'other' }) },
  ]);
  t.equal(pick(strict), undefined);
});

t.test('connections in flight are counted for all plans of an endpoint together', async (t) => {
  const { pick } = setUp(endpoint('a'), endpoint('b'));
  const chosen = pick();
  if (chosen?.load) chosen.load.inFlight += 5;
  const elsewhere = aWorkload('web', { node: 'node-2' });
  const counts = { a: 0, b: 0 };
  for (let i = 0; i < 400; i++) counts[pick(service, elsewhere)?.workload.name === 'a' ? 'a' : 'b']++;
  const [busy, idle] = chosen?.workload.name === 'a' ? [counts.a, counts.b] : [counts.b, counts.a];
  t.ok(busy < idle * 0.6, `${busy} of ${busy + idle} on the busy one: both draws must hit it`);
});

t.test('who could not be reached is left out, longer each time, until it can be again', async (t) => {
  const { clock, metrics, ejections, picked } = setUp(endpoint('a'), endpoint('b'));
  const { uid } = endpoint('a');
  ejections.failed(uid);
  ejections.failed(uid);
  t.strictSame(picked(), ['b']);
  clock.advance(1000);
  t.strictSame(picked(), ['a', 'b'], 'after a second it is tried again');
  ejections.failed(uid);
  clock.advance(1999);
  t.strictSame(picked(), ['b']);
  clock.advance(1);
  t.strictSame(picked(), ['a', 'b']);
  for (let i = 0; i < 20; i++) {
    clock.advance(60_000);
    ejections.failed(uid);
  }
  clock.advance(60_000);
  t.notOk(ejections.has(uid, 80), 'a minute at most');
  ejections.succeeded(uid, 80);
  ejections.failed(uid);
  clock.advance(1000);
  t.notOk(ejections.has(uid, 80), 'a success starts it over');
  t.match((await metrics.render()).body, /culvert_endpoint_ejections_total 23/u);
});

t.test('the gauge of who is left out is right at any time, without anybody asking', async (t) => {
  const clock = new FakeClock();
  const numbers: Float64Array[] = [];
  const shared = new SharedNumbers((news) => news.kind === 'page' && numbers.push(news.numbers));
  const ejections = new Ejections(clock, new Metrics({ shared }));
  // Of its two numbers the second: the counter is made first.
  const shown = (): number | undefined => numbers[0]?.[1];
  const [a, b] = ['a', 'b'].map((name) => endpoint(name).uid) as [WorkloadUid, WorkloadUid];
  ejections.failed(a);
  clock.advance(600);
  ejections.failed(b, 80);
  t.equal(shown(), 2);
  clock.advance(400);
  t.equal(shown(), 1, 'the first is let in again');
  ejections.succeeded(b, 80);
  t.equal(shown(), 0);
  ejections.failed(b);
  t.equal(shown(), 1);
  clock.advance(1000);
  t.equal(shown(), 0);
});

t.test('a port that refuses says nothing of the others of the workload', async (t) => {
  const { ejections, picked } = setUp(endpoint('a'), endpoint('b'));
  const { uid } = endpoint('a');
  ejections.failed(uid, 9999);
  t.strictSame(picked(), ['a', 'b']);
  const [port] = [...(endpoint('a').services.values().next().value ?? [])][0]?.slice(1) ?? [8080];
  ejections.failed(uid, port);
  t.strictSame(picked(), ['b']);
  ejections.succeeded(uid, 9999);
  t.strictSame(picked(), ['b'], 'nor does one that answers');
  ejections.succeeded(uid, port);
  t.strictSame(picked(), ['a', 'b']);
});

t.test('when everybody failed, anybody will do; a lower rank before that', async (t) => {
  const failover = aService('cart', { loadBalancing: { mode: 'Failover', preferences: ['NODE'], health: 'OnlyHealthy' } });
  const { ejections, picked } = setUp(failover, endpoint('near'), endpoint('far', { node: 'node-2' }));
  t.strictSame(picked(failover), ['near']);
  ejections.failed(endpoint('near').uid);
  t.strictSame(picked(failover), ['far']);
  ejections.failed(endpoint('far').uid);
  t.strictSame(picked(failover), ['near']);
});

t.test('nothing that is kept grows without end', async (t) => {
  const clock = new FakeClock();
  const metrics = new Metrics();
  const ejections = new Ejections(clock, metrics);
  for (let i = 0; i < 3000; i++) ejections.failed(endpoint(`e${i}`).uid);
  t.equal(ejections.ejected, 1024);
  const services = Array.from({ length: 10 }, (_, i) => aService(`s${i}`));
  const endpoints = services.flatMap((_, i) =>
    Array.from({ length: 10 }, (__, j) => aWorkload(`e${i}-${j}`, { services: { [`s${i}`]: {} } })),
  );
  const store = aStore(...services, ...endpoints);
  const balancer = new Balancer(store, ejections, 30);
  for (const each of [...services, ...services])
    t.ok(pickEndpoint(store, { service: each, port: 80, dialled: '', source, random: Math.random, balancer }));
  t.ok(balancer.size.planned <= 30 && balancer.size.counted <= 40, JSON.stringify(balancer.size));
});
