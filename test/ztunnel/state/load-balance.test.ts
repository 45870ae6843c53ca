import t from 'tap';
import { pickEndpoint } from '../../../ztunnel/state/load-balance.ts';
import type { PickRequest } from '../../../ztunnel/state/load-balance.ts';
import type { LoadBalancing, Scope, Service, Workload } from '../../../ztunnel/state/model.ts';
import { aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

const source = aWorkload('web', { locality: { region: 'eu', zone: 'eu-1', subzone: 'a' }, node: 'node-1' });

function endpoint(name: string, init: Parameters<typeof aWorkload>[1] = {}): Workload {
  return aWorkload(name, { ips: ['10.0.0.5'], services: { cart: {} }, ...init });
}

function pick(service: Service, endpoints: Workload[], init: Partial<PickRequest> = {}) {
  const store = aStore(service, ...endpoints);
  return pickEndpoint(store, { service, port: 80, dialled: '10.96.0.1', source, random: () => 0, ...init });
}

/** Names of all that are picked over the whole range of random numbers. */
function picked(service: Service, endpoints: Workload[]): string[] {
  const names = new Set<string>();
  for (let i = 0; i < 100; i++) names.add(pick(service, endpoints, { random: () => i / 100 })?.workload.name ?? 'none');
  return [...names].sort();
}

function balanced(mode: LoadBalancing['mode'], preferences: Scope[], health: LoadBalancing['health'] = 'OnlyHealthy'): Service {
  return aService('cart', { loadBalancing: { mode, preferences, health } });
}

t.test('random by capacity; zero takes none', async (t) => {
  const service = aService('cart');
  const endpoints = [endpoint('a', { capacity: 3 }), endpoint('b', { capacity: 1 }), endpoint('c', { capacity: 0 })];
  const count = (name: string) =>
    Array.from({ length: 100 }, (_, i) => pick(service, endpoints, { random: () => i / 100 })).filter(
      (e) => e?.workload.name === name,
    ).length;
  t.equal(count('a'), 75);
  t.equal(count('b'), 25);
  t.equal(pick(service, [endpoint('c', { capacity: 0 })]), undefined);
});

t.test('unhealthy endpoints count only where all are allowed, whenever that is said', async (t) => {
  const sick = endpoint('sick', { status: 'Unhealthy' });
  t.strictSame(picked(aService('cart'), [sick, endpoint('well')]), ['well']);
  t.strictSame(picked(balanced('Standard', [], 'AllowAll'), [sick, endpoint('well')]), ['sick', 'well']);
  const store = aStore(aService('cart'), sick);
  const late = balanced('Standard', [], 'AllowAll');
  store.apply([{ kind: 'service', service: late }]);
  t.equal(pickEndpoint(store, { service: late, port: 80, dialled: '', source, random: () => 0 })?.workload.name, 'sick');
});

t.test('FAILOVER: the longest match of the preferences', async (t) => {
  const near = endpoint('near', { locality: { region: 'eu', zone: 'eu-1', subzone: 'b' } });
  const far = endpoint('far', { locality: { region: 'eu', zone: 'eu-2', subzone: 'a' } });
  const away = endpoint('away', { locality: { region: 'us', zone: 'eu-1', subzone: 'a' } });
  const service = balanced('Failover', ['REGION', 'ZONE', 'SUBZONE']);
  t.strictSame(picked(service, [near, far, away]), ['near']);
  t.strictSame(picked(service, [far, away]), ['far']);
  t.strictSame(picked(service, [away]), ['away']);
});

t.test('STRICT: all preferences or nothing', async (t) => {
  const here = endpoint('here', { node: 'node-1' });
  const there = endpoint('there', { node: 'node-2' });
  t.strictSame(picked(balanced('Strict', ['NODE']), [here, there]), ['here']);
  t.strictSame(picked(balanced('Strict', ['NODE']), [there]), ['none']);
});

t.test('ports: the endpoint’s own mapping, then the service’s; a named port needs its own', async (t) => {
  t.equal(pick(aService('cart'), [endpoint('a')])?.port, 8080);
  t.equal(pick(aService('cart'), [endpoint('a', { services: { cart: { 80: 9090 } } })])?.port, 9090);
  const named = aService('cart', { ports: { 80: 0 } });
  t.equal(pick(named, [endpoint('a')]), undefined);
  t.equal(pick(named, [endpoint('a'), endpoint('b', { services: { cart: { 80: 7070 } } })])?.port, 7070);
  t.equal(pick(aService('cart'), [endpoint('a')], { port: 81 }), undefined);
  const tunnel = endpoint('a', { applicationTunnel: { protocol: 'PROXY', port: 15_088 } });
  t.equal(pick(aService('cart'), [tunnel], { port: 81 })?.port, 81);
});

t.test('addresses: of the family that was dialled, within what the service offers', async (t) => {
  const dual = endpoint('a', { ips: ['10.0.0.5', 'fd00::5'] });
  t.equal(pick(aService('cart'), [dual], { dialled: 'fd00:96::1' })?.ip, 'fd00::5');
  t.equal(pick(aService('cart'), [dual])?.ip, '10.0.0.5');
  t.equal(pick(aService('cart', { ipFamilies: 'IPv6' }), [dual])?.ip, 'fd00::5');
  t.equal(pick(aService('cart', { ipFamilies: 'IPv6' }), [endpoint('a')]), undefined);
});

t.test('endpoints of other networks are not dialled directly', async (t) => {
  t.equal(pick(aService('cart'), [endpoint('a', { network: 'elsewhere' })]), undefined);
});

t.test('FAILOVER with NETWORK first: own network before all, the other scopes among the rest', async (t) => {
  const service = balanced('Failover', ['NETWORK', 'ZONE']);
  const near = endpoint('near', { locality: { region: 'eu', zone: 'eu-1', subzone: 'b' } });
  const far = endpoint('far', { locality: { region: 'eu', zone: 'eu-2', subzone: 'b' } });
  t.strictSame(picked(service, [near, far]), ['near']);
  t.strictSame(picked(service, [far]), ['far']);
});

t.test(
  'FAILOVER with NETWORK first: an endpoint of another network takes what none of the own can, the nearest of them',
  async (t) => {
    const service = balanced('Failover', ['NETWORK', 'REGION', 'ZONE']);
    const networkGateway = { kind: 'address', network: 'other', ip: '192.0.2.9', port: 15_008 } as const;
    const other = (name: string, zone: string) =>
      endpoint(name, { network: 'other', networkGateway, locality: { region: 'eu', zone, subzone: '' } });
    const own = endpoint('own', { locality: { region: 'us', zone: 'us-1', subzone: '' } });
    const [near, far] = [other('near', 'eu-1'), other('far', 'eu-2')];
    t.strictSame(picked(service, [near, far, own]), ['own'], 'whatever else it matches');
    t.strictSame(picked(service, [near, far]), ['near'], 'the other scopes count where the network does not match');
    t.strictSame(picked(service, [far]), ['far']);
    t.strictSame(
      picked(balanced('Failover', ['REGION', 'NETWORK']), [far, own]),
      ['far'],
      'in second place it is like the others',
    );
  },
);

t.test('FAILOVER: the subzone decides where region and zone are the same', async (t) => {
  const service = balanced('Failover', ['REGION', 'ZONE', 'SUBZONE']);
  const within = (name: string, subzone: string) => endpoint(name, { locality: { region: 'eu', zone: 'eu-1', subzone } });
  t.strictSame(picked(service, [within('same', 'a'), within('next', 'b')]), ['same']);
  t.strictSame(picked(service, [within('next', 'b'), within('last', 'c')]), ['last', 'next']);
  const elsewhere = endpoint('elsewhere', { locality: { region: 'eu', zone: 'eu-2', subzone: 'a' } });
  t.strictSame(picked(service, [within('next', 'b'), elsewhere]), ['next'], 'a subzone of the same name in another zone is none');
});

t.test('STRICT with several scopes: each of them must match', async (t) => {
  const service = balanced('Strict', ['REGION', 'ZONE', 'CLUSTER']);
  const all = endpoint('all', { locality: { region: 'eu', zone: 'eu-1', subzone: 'z' }, node: 'node-9' });
  const locality = all.locality;
  const wrong = [
    endpoint('region', { locality: { ...locality, region: 'us' } }),
    endpoint('zone', { locality: { ...locality, zone: 'eu-2' } }),
    endpoint('cluster', { locality, clusterId: 'other' }),
  ];
  t.strictSame(picked(service, [all, ...wrong]), ['all']);
  t.strictSame(picked(service, wrong), ['none'], 'one that does not match is enough');
});

t.test('FAILOVER: by node and cluster; a zone of the same name in another region counts only without the region', async (t) => {
  const here = endpoint('here', { node: 'node-1' });
  const there = endpoint('there', { node: 'node-2', clusterId: 'other' });
  t.strictSame(picked(balanced('Failover', ['NODE']), [here, there]), ['here']);
  t.strictSame(picked(balanced('Failover', ['CLUSTER']), [here, there]), ['here']);
  const away = endpoint('away', { locality: { region: 'us', zone: 'eu-1', subzone: '' } });
  const none = endpoint('none', { locality: { region: 'eu', zone: 'eu-9', subzone: '' } });
  t.strictSame(picked(balanced('Failover', ['ZONE']), [away, none]), ['away']);
  t.strictSame(picked(balanced('Failover', ['REGION', 'ZONE']), [away, none]), ['none']);
});

t.test('an endpoint that failed is not tried again, also when the next one is of a lower rank', async (t) => {
  const service = balanced('Failover', ['NODE']);
  const here = endpoint('here', { node: 'node-1' });
  const there = endpoint('there', { node: 'node-2' });
  const exclude = new Set([here.uid]);
  t.equal(pick(service, [here, there], { exclude })?.workload.name, 'there');
  t.equal(pick(service, [here], { exclude }), undefined);
});
