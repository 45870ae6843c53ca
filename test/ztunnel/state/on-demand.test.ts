// State that is asked for: one question per name, answers under every name of a thing, no wait without end, and no memory of ever more.
import { create, toBinary } from '@bufbuild/protobuf';
import t from 'tap';
import { AddressSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import { FakeClock } from '#shared/clock.ts';
import { fetchDestination, fetchHost } from '../../../ztunnel/state/fetch.ts';
import type { GatewayAddress } from '../../../ztunnel/state/model.ts';
import { networkAddress } from '../../../ztunnel/state/model.ts';
import { OnDemand } from '../../../ztunnel/state/on-demand.ts';
import type { MeshStore, StateChange } from '../../../ztunnel/state/store.ts';
import { aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

function start(options: { maxNames?: number } = {}) {
  const clock = new FakeClock();
  const demand = new OnDemand({ clock, ...options });
  const said: string[] = [];
  demand.use({
    ask: (...names) => void said.push(...names.map((name) => `+${name}`)),
    unsubscribe: (...names) => void said.push(...names.map((name) => `-${name}`)),
  });
  const heard = (name: string, aliases: string[] = []): void =>
    demand.heard([{ name, version: '1', aliases, resource: bytes }], []);
  return { clock, demand, said, heard };
}

const cart = aWorkload('cart', { ips: ['10.0.0.2'], services: { cart: {} } });
const workload: StateChange = { kind: 'workload', workload: cart };
const bytes = toBinary(
  AddressSchema,
  create(AddressSchema, { type: { case: 'workload', value: { uid: cart.uid, addresses: [new Uint8Array([10, 0, 0, 2])] } } }),
);

t.test('all who wait for a name share one question; a thing is heard of by its aliases and by its own addresses', async (t) => {
  const { demand, said, heard } = start();
  const waiting = Promise.all(['/10.0.0.2', '/10.0.0.2', 'other-name'].map((name) => demand.fetch(name)));
  t.strictSame(said, ['+/10.0.0.2', '+other-name']);
  heard(cart.uid, ['other-name']);
  await waiting;
  await demand.fetch('/10.0.0.2');
  t.equal(said.length, 2, 'what is held is followed, and not asked for again');
});

t.test('what is not there is believed for a while, then asked for again', async (t) => {
  const { clock, demand, said } = start();
  const waiting = demand.fetch('/192.0.2.1');
  demand.heard([], ['/192.0.2.1']);
  await waiting;
  await demand.fetch('/192.0.2.1');
  t.equal(said.length, 1);
  clock.advance(10_001);
  const again = demand.fetch('/192.0.2.1');
  t.strictSame(said, ['+/192.0.2.1', '+/192.0.2.1']);
  demand.heard([], ['/192.0.2.1']);
  await again;
});

t.test('what goes away is nobody’s: the address may be somebody else’s by now', async (t) => {
  const { demand, said, heard } = start();
  const waiting = demand.fetch('/10.0.0.2');
  heard(cart.uid);
  await waiting;
  demand.heard([], [cart.uid]);
  t.strictSame(said, ['+/10.0.0.2', '-/10.0.0.2']);
  const other = demand.fetch('/10.0.0.2');
  t.strictSame(said.slice(2), ['+/10.0.0.2']);
  demand.heard([], ['/10.0.0.2']);
  await other;
});

t.test('nobody waits without end, and a late answer counts', async (t) => {
  const { clock, demand, said, heard } = start();
  const waiting = demand.fetch('/10.0.0.2');
  clock.advance(5000);
  await t.rejects(waiting, { code: 'unknown_destination', message: /did not say within 5000 ms what \/10\.0\.0\.2 is/u });
  const second = demand.fetch('/10.0.0.2');
  t.equal(said.length, 1, 'the question still stands');
  heard(cart.uid);
  await second;
});

t.test('who serves a service is asked for again by a name that it is not held by, once in ten seconds', async (t) => {
  const { clock, demand, said, heard } = start();
  const { key } = aService('cart');
  const first = demand.fetch('/10.96.0.1');
  heard(key, ['/10.96.0.1']);
  await first;
  const renewed = demand.renew(key, networkAddress('', '10.96.0.1'));
  t.strictSame(said, ['+/10.96.0.1', `+${key}`]);
  const also = demand.renew(key, networkAddress('', '10.96.0.1'));
  heard(key);
  await Promise.all([renewed, also]);
  await demand.renew(key, networkAddress('', '10.96.0.1'));
  t.equal(said.length, 2);
  clock.advance(10_001);
  const again = demand.renew(key, networkAddress('', '10.96.0.1'));
  t.strictSame(said.slice(2), [`+${key}`]);
  heard(key);
  await again;

  const byName = start();
  const held = byName.demand.fetch(key);
  byName.heard(key);
  await held;
  void byName.demand.renew(key, networkAddress('', '10.96.0.1')).catch(() => undefined);
  t.strictSame(byName.said, [`+${key}`, '+/10.96.0.1']);
});

t.test('names are limited: those that stand for nothing go first, then nothing more is asked', async (t) => {
  const { demand, said, heard } = start({ maxNames: 2 });
  const missing = demand.fetch('a');
  demand.heard([], ['a']);
  await missing;
  const held = demand.fetch('/10.0.0.2');
  heard(cart.uid);
  await held;
  void demand.fetch('b').catch(() => undefined);
  t.strictSame(said, ['+a', '+/10.0.0.2', '-a', '+b']);
  await t.rejects(demand.fetch('c'), { code: 'limit_reached' });
});

/** Answers from what a whole mesh holds, and notes what was asked. */
function controlPlane(store: MeshStore, ...mesh: Readonly<Record<string, StateChange[]>>[]) {
  const all = Object.assign({}, ...mesh) as Record<string, StateChange[]>;
  const asked: string[] = [];
  const renewed: string[] = [];
  return {
    asked,
    renewed,
    renew: async (service: string) => void renewed.push(service),
    async fetch(name: string) {
      asked.push(name);
      store.apply(all[name] ?? []);
    },
  };
}

const byName = (host: string): GatewayAddress => ({ kind: 'hostname', host: aService(host).key, port: 15_008 });
const serviceOf = (name: string, init: Parameters<typeof aService>[1] = {}): StateChange => ({
  kind: 'service',
  service: aService(name, init),
});

t.test('a destination is fetched with the waypoint that it names and the network gateway on the way, each once', async (t) => {
  const store = aStore(aWorkload('web'));
  const gateway: GatewayAddress = { kind: 'address', network: 'far', ip: '192.0.2.9', port: 15_008 };
  const waypoint = aWorkload('waypoint', { network: 'far', ips: [], networkGateway: gateway, services: { waypoint: {} } });
  const plane = controlPlane(store, {
    '/10.96.0.1': [serviceOf('cart', { waypoint: byName('waypoint') }), workload],
    [aService('waypoint').key]: [serviceOf('waypoint', { vips: ['10.96.0.9'] }), { kind: 'workload', workload: waypoint }],
    'far/192.0.2.9': [{ kind: 'workload', workload: aWorkload('gateway', { network: 'far', ips: ['192.0.2.9'] }) }],
  });
  const question = { network: '', to: { ip: '10.96.0.1' }, namespace: 'shop' };
  await fetchDestination(store, plane, question);
  t.strictSame(plane.asked, ['/10.96.0.1', aService('waypoint').key, 'far/192.0.2.9']);
  await fetchDestination(store, plane, question);
  t.equal(plane.asked.length, 3, 'what is held is not asked for');
});

t.test(
  'a service that nobody can serve any more is asked for again: istiod does not tell of who has joined it since',
  async (t) => {
    const store = aStore(aWorkload('web'));
    const { key } = aService('cart');
    const endpoint = { ips: ['10.0.0.2'], services: { cart: {} } };
    const plane = controlPlane(store, { '/10.96.0.1': [serviceOf('cart'), workload] });
    const connect = () => fetchDestination(store, plane, { network: '', to: { ip: '10.96.0.1' }, namespace: 'shop' });
    await connect();
    await connect();
    t.strictSame(plane.renewed, [], 'not while somebody does');
    store.apply([{ kind: 'workload', workload: aWorkload('cart', { ...endpoint, status: 'Unhealthy' }) }]);
    await connect();
    store.apply([{ kind: 'remove-address', name: cart.uid }]);
    await connect();
    t.strictSame(plane.renewed, [key, key]);
    for (const needless of [
      serviceOf('cart', { waypoint: byName('waypoint') }),
      serviceOf('cart', { loadBalancing: { mode: 'Passthrough', preferences: [], health: 'AllowAll' } }),
    ]) {
      store.apply([needless]);
      await connect();
    }
    t.equal(plane.renewed.length, 2, 'nor where nobody has to');
  },
);

t.test('an address in a block of a service may still be another service’s', async (t) => {
  const store = aStore(aWorkload('web'));
  store.apply([serviceOf('block', { vips: [], cidrVips: [{ network: '', ip: '10.96.0.0', length: 16 }] })]);
  const plane = controlPlane(store, { '/10.96.0.1': [serviceOf('cart')] });
  await fetchDestination(store, plane, { network: '', to: { ip: '10.96.0.1' }, namespace: 'shop' });
  t.equal(store.services.byVip('', '10.96.0.1', 'shop')?.name, 'cart');
  t.strictSame(aService('cart').vips, [networkAddress('', '10.96.0.1')]);
});

t.test('a host name is asked for in the namespace that it tells, else in the client’s', async (t) => {
  const asked: string[] = [];
  const demand = { fetch: async (name: string) => void asked.push(name), renew: () => Promise.resolve() };
  const ask = (hostname: string) => fetchHost(demand, { hostname, namespace: 'shop', clusterDomain: 'cluster.local' });
  await ask('cart.other.svc.cluster.local');
  await ask('pod-0.cart.other.svc.cluster.local');
  await ask('db.example.com');
  await ask('cart');
  t.strictSame(asked, ['other/cart.other.svc.cluster.local', 'other/cart.other.svc.cluster.local', 'shop/db.example.com']);
});
