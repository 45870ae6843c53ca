// Each row of the outbound table is one test (facts: ztunnel 3).
import t from 'tap';
import { namespacedHostname, spiffeId, workloadUid } from '#shared/ids.ts';
import { decideRoute } from '../../../ztunnel/proxy/upstream.ts';
import type { NamedRoute, Route } from '../../../ztunnel/proxy/upstream.ts';
import type { GatewayAddress, Service } from '../../../ztunnel/state/model.ts';
import { networkAddress } from '../../../ztunnel/state/model.ts';
import type { MeshStore } from '../../../ztunnel/state/store.ts';
import { aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

const web = aWorkload('web', { ips: ['10.0.0.1'] });
const cart = aWorkload('cart', { ips: ['10.0.0.2'], services: { cart: {} } });
const legacy = aWorkload('legacy', { ips: ['10.0.0.3'], protocol: 'TCP' });
const waypointPod = aWorkload('waypoint', { ips: ['10.0.0.9'], nativeTunnel: true, services: { waypoint: {} } });
const waypoint = aService('waypoint', { vips: ['10.96.0.9'], ports: { 15_008: 15_008 } });
const byHostname: GatewayAddress = { kind: 'hostname', host: waypoint.key, port: 15_008 };
const byVip: GatewayAddress = { kind: 'address', network: '', ip: '10.96.0.9', port: 15_008 };

function route(
  store: MeshStore,
  ip: string,
  port = 80,
  init: Partial<Parameters<typeof decideRoute>[1]> = {},
): Route | NamedRoute {
  return decideRoute(store, { source: web, sourceIp: '10.0.0.1', to: { ip, port }, network: '', random: () => 0, ...init });
}

t.test('unknown destination: passthrough', async (t) => {
  t.strictSame(route(aStore(web), '1.2.3.4', 443), { kind: 'passthrough', to: { ip: '1.2.3.4', port: 443 } });
});

t.test('captured workload by its address: a tunnel to its port 15008', async (t) => {
  t.match(route(aStore(web, cart), '10.0.0.2', 8080), {
    kind: 'hbone',
    to: { ip: '10.0.0.2', port: 15_008 },
    authority: { ip: '10.0.0.2', port: 8080 },
    accepted: [cart.identity],
    via: 'workload',
  });
});

t.test('workload without a tunnel: plaintext', async (t) => {
  t.match(route(aStore(web, legacy), '10.0.0.3', 9000), { kind: 'plain', to: { ip: '10.0.0.3', port: 9000 }, workload: legacy });
});

t.test('host-network workloads are not found by their address', async (t) => {
  const host = aWorkload('host', { ips: ['10.0.0.4'], networkMode: 'HostNetwork' });
  t.equal(route(aStore(host), '10.0.0.4').kind, 'passthrough');
});

t.test('service: an endpoint, its port, and whoever may answer for it', async (t) => {
  const extra = spiffeId({ trustDomain: 'td', namespace: 'ns', serviceAccount: 'sa' });
  const store = aStore(web, cart, aService('cart', { subjectAltNames: [extra] }));
  t.match(route(store, '10.96.0.1'), {
    kind: 'hbone',
    to: { ip: '10.0.0.2', port: 15_008 },
    authority: { ip: '10.0.0.2', port: 8080 },
    accepted: [extra, cart.identity],
    service: { name: 'cart' },
  });
});

t.test('service without a usable endpoint, or port: refused', async (t) => {
  const store = aStore(web, cart, aService('cart'), aService('empty', { vips: ['10.96.0.2'] }));
  t.throws(() => route(store, '10.96.0.2'), { code: 'no_healthy_upstream', message: 'no healthy upstream: 10.96.0.2:80' });
  t.throws(() => route(store, '10.96.0.1', 81), { code: 'no_healthy_upstream' });
  const failed = { exclude: new Set([workloadUid(cart.uid)]) };
  t.throws(() => route(store, '10.96.0.1', 80, failed), { code: 'no_healthy_upstream' }, 'the only endpoint just failed');
});

t.test('PASSTHROUGH service: as it was', async (t) => {
  const service = aService('cart', { loadBalancing: { mode: 'Passthrough', preferences: [], health: 'OnlyHealthy' } });
  t.match(route(aStore(web, cart, service), '10.96.0.1'), { kind: 'passthrough', to: { ip: '10.96.0.1', port: 80 }, service });
});

for (const [name, gateway] of [
  ['host name', byHostname],
  ['address', byVip],
] as const) {
  t.test(`service waypoint by ${name}: asked for the address that the client dialled`, async (t) => {
    const store = aStore(web, cart, waypointPod, waypoint, aService('cart', { waypoint: gateway }));
    t.match(route(store, '10.96.0.1'), {
      kind: 'hbone',
      to: { ip: '10.0.0.9', port: 15_008 },
      authority: { ip: '10.96.0.1', port: 80 },
      accepted: [waypointPod.identity],
      via: 'waypoint',
      service: { name: 'cart' },
    });
  });
}

t.test('a service waypoint beats PASSTHROUGH; a workload waypoint is for direct traffic only', async (t) => {
  const passthrough = { mode: 'Passthrough', preferences: [], health: 'OnlyHealthy' } as const;
  const store = aStore(web, waypointPod, waypoint, aService('cart', { waypoint: byHostname, loadBalancing: passthrough }));
  t.match(route(store, '10.96.0.1'), { via: 'waypoint' });
  const bound = aWorkload('cart', { ips: ['10.0.0.2'], services: { cart: {} }, waypoint: byHostname });
  const other = aStore(web, bound, waypointPod, waypoint, aService('cart'));
  t.match(route(other, '10.0.0.2', 8080), { via: 'waypoint', authority: { ip: '10.0.0.2', port: 8080 } });
  t.match(route(other, '10.96.0.1'), { via: 'workload' });
});

t.test('a waypoint itself goes straight to what it serves', async (t) => {
  const bound = aWorkload('cart', { ips: ['10.0.0.2'], services: { cart: {} }, waypoint: byHostname });
  const store = aStore(bound, waypointPod, waypoint, aService('cart', { waypoint: byHostname }));
  const from = { source: waypointPod, sourceIp: '10.0.0.9' };
  t.match(route(store, '10.96.0.1', 80, from), { via: 'workload' });
  t.match(route(store, '10.0.0.2', 80, from), { via: 'workload' });
  t.match(
    route(store, '10.0.0.2', 80, { ...from, sourceIp: '10.0.0.77' }),
    { via: 'waypoint' },
    'but not from a borrowed address',
  );
});

t.test('a waypoint that nobody is: refused, never past it', async (t) => {
  const lost: GatewayAddress = { kind: 'address', network: '', ip: '10.96.7.7', port: 15_008 };
  const store = aStore(web, cart, aService('cart', { waypoint: lost }));
  t.throws(() => route(store, '10.96.0.1'), { code: 'unknown_destination', message: 'unknown waypoint: /10.96.7.7' });
  const empty = aStore(web, cart, waypoint, aService('cart', { waypoint: byHostname }));
  t.throws(() => route(empty, '10.96.0.1'), { code: 'no_healthy_upstream' });
});

t.test(
  'traffic of any waypoint of a service goes to none of its siblings, whichever is drawn and however little it weighs',
  async (t) => {
    const canary = aWorkload('canary', { ips: ['10.0.0.8'], nativeTunnel: true, services: { canary: {} } });
    const old = aWorkload('old', { ips: ['10.0.0.7'], nativeTunnel: true, services: { old: {} } });
    const services = ['canary', 'old'].map((name, i) =>
      aService(name, { vips: [`10.96.0.${7 + i}`], ports: { 15_008: 15_008 } }),
    );
    const gateways = [waypoint, ...services].map(({ key }): GatewayAddress => ({ kind: 'hostname', host: key, port: 15_008 }));
    const weightedWaypoints = gateways.slice(0, 2).map((each, i) => ({ waypoint: each, weight: [9, 0][i] ?? 0 }));
    const bound = aService('cart', { weightedWaypoints, waypoint: gateways[2] ?? byHostname });
    const store = aStore(web, cart, waypointPod, canary, old, waypoint, ...services, bound);
    for (const source of [waypointPod, canary, old])
      for (const random of [0, 0.99])
        t.match(
          route(store, '10.96.0.1', 80, { source, sourceIp: source.ips[0] ?? '', random: () => random }),
          { via: 'workload', workload: { name: 'cart' } },
          `from ${source.name}`,
        );
    t.match(route(store, '10.96.0.1'), { via: 'waypoint', workload: { name: 'waypoint' } });
  },
);

t.test('weighted waypoints are sampled', async (t) => {
  const canary = aWorkload('canary', { ips: ['10.0.0.10'], services: { canary: {} } });
  const canaryService = aService('canary', { vips: ['10.96.0.10'], ports: { 15_008: 15_008 } });
  const weightedWaypoints = [
    { waypoint: byHostname, weight: 90 },
    { waypoint: { kind: 'hostname', host: canaryService.key, port: 15_008 } as const, weight: 10 },
  ];
  const store = aStore(web, waypointPod, waypoint, canary, canaryService, aService('cart', { weightedWaypoints }));
  t.match(route(store, '10.96.0.1', 80, { random: () => 0.89 }), { workload: { name: 'waypoint' } });
  t.match(route(store, '10.96.0.1', 80, { random: () => 0.91 }), { workload: { name: 'canary' } });
});

t.test('weights that are all zero count as none: the plain waypoint, or none at all', async (t) => {
  const weightedWaypoints = [{ waypoint: { kind: 'address', network: '', ip: '10.96.7.7', port: 15_008 } as const, weight: 0 }];
  const bound = aService('cart', { weightedWaypoints, waypoint: byHostname });
  t.match(route(aStore(web, cart, waypointPod, waypoint, bound), '10.96.0.1'), {
    via: 'waypoint',
    workload: { name: 'waypoint' },
  });
  t.match(route(aStore(web, cart, aService('cart', { weightedWaypoints })), '10.96.0.1'), { via: 'workload' });
});

t.test('a waypoint may be a workload, by address or host name; the names of its service may answer too', async (t) => {
  const lone = aWorkload('lone', { ips: ['10.0.0.11'], hostname: 'lone.example', nativeTunnel: true });
  for (const gateway of [
    { kind: 'address', network: '', ip: '10.0.0.11', port: 15_008 },
    { kind: 'hostname', host: namespacedHostname('shop', 'lone.example'), port: 15_008 },
  ] as const)
    t.match(route(aStore(web, cart, lone, aService('cart', { waypoint: gateway })), '10.96.0.1'), {
      to: { ip: '10.0.0.11', port: 15_008 },
      accepted: [lone.identity],
      via: 'waypoint',
    });
  const extra = spiffeId({ trustDomain: 'td', namespace: 'ns', serviceAccount: 'sa' });
  const named = aService('waypoint', { vips: ['10.96.0.9'], ports: { 15_008: 15_008 }, subjectAltNames: [extra] });
  t.match(route(aStore(web, cart, waypointPod, named, aService('cart', { waypoint: byHostname })), '10.96.0.1'), {
    accepted: [extra, waypointPod.identity],
  });
});

t.test('headless: the pod’s address leads to the pod, and no service is told', async (t) => {
  const found = route(aStore(web, cart, aService('cart', { vips: [] })), '10.0.0.2', 8080);
  t.match(found, { kind: 'hbone', authority: { ip: '10.0.0.2', port: 8080 }, via: 'workload' });
  t.notOk(found.service);
});

t.test('who is meant by an address that several services have', async (t) => {
  const mine = aService('mine', { hostname: 'mine', waypoint: byHostname });
  const hidden = aService('theirs', { hostname: 'theirs', namespace: 'other', visibility: 'Namespace' });
  t.equal(route(aStore(web, hidden), '10.96.0.1').kind, 'passthrough', 'a service of another namespace that hides');
  const both = aStore(web, waypointPod, waypoint, aService('first', { namespace: 'other' }), mine);
  t.match(route(both, '10.96.0.1'), { service: { name: 'mine' } }, 'the client’s own namespace first');
  const [early, main] = [aService('early', { namespace: 'a' }), aService('main', { namespace: 'b', canonical: true })];
  const far = aWorkload('far', { namespace: 'c', ips: ['10.0.0.12'] });
  const canonical = aStore(web, far, early, main);
  t.throws(() => route(canonical, '10.96.0.1'), { code: 'no_healthy_upstream' });
  t.equal(canonical.services.byVip('', '10.96.0.1', 'c')?.name, 'main', 'then the canonical one, whenever it came');
});

t.test('address blocks count where no exact address does, the tightest first', async (t) => {
  const block = (name: string, length: number) =>
    aService(name, {
      vips: [],
      cidrVips: [{ network: '', ip: '10.96.0.0', length }],
      loadBalancing: { mode: 'Passthrough', preferences: [], health: 'OnlyHealthy' },
    });
  const store = aStore(web, block('wide', 16), block('tight', 24));
  t.match(route(store, '10.96.0.77'), { service: { name: 'tight' } });
  t.match(route(store, '10.96.9.9'), { service: { name: 'wide' } });
});

t.test('of several blocks: the own namespace’s, then the tightest, then the canonical one; hidden ones are none', async (t) => {
  const block = (name: string, length: number, init: Parameters<typeof aService>[1] = {}) =>
    aService(name, { vips: [], cidrVips: [{ network: '', ip: '10.96.0.0', length }], ...init });
  const meant = (...services: readonly Service[]) => aStore(web, ...services).services.byVip('', '10.96.0.77', 'shop')?.name;
  const [own, tight] = [block('own', 16), block('tight', 24, { namespace: 'other' })];
  t.equal(meant(tight, own), 'own', 'the own namespace before the length');
  const canonical = block('canonical', 16, { namespace: 'a', canonical: true });
  t.equal(meant(canonical, tight), 'tight', 'the length before the canonical one');
  t.equal(meant(block('first', 16, { namespace: 'b' }), canonical), 'canonical', 'at the same length the canonical one');
  const host = [{ network: '', ip: '10.96.0.77', length: 32 }];
  const hidden = block('hidden', 32, { namespace: 'other', visibility: 'Namespace', canonical: true, cidrVips: host });
  t.equal(meant(tight, hidden), 'tight', 'whatever its rank');
  t.equal(aStore(hidden).services.byVip('', '10.96.0.77', 'other')?.name, 'hidden');
  t.equal(meant(hidden), undefined);
  t.equal(
    meant(block('exact', 24), aService('vip', { vips: ['10.96.0.77'], namespace: 'other' })),
    'vip',
    'an address before all',
  );
  t.equal(meant(block('elsewhere', 24, { cidrVips: [{ network: 'other', ip: '10.96.0.0', length: 24 }] })), undefined);
});

t.test(
  'an address that is a workload’s and a service’s: no waypoint of the service, and its endpoints all the same',
  async (t) => {
    const same = aWorkload('same', { ips: ['10.96.0.1'] });
    const store = aStore(web, cart, same, waypointPod, waypoint, aService('cart', { waypoint: byHostname }));
    t.match(route(store, '10.96.0.1'), { kind: 'hbone', via: 'workload', workload: { name: 'cart' }, service: { name: 'cart' } });
    const bound = aWorkload('same', { ips: ['10.96.0.1'], waypoint: byHostname });
    t.match(
      route(aStore(web, cart, bound, waypointPod, waypoint, aService('cart')), '10.96.0.1'),
      { via: 'workload', workload: { name: 'cart' } },
      'nor that of the workload',
    );
  },
);

const eastWest = aWorkload('east-west', { network: 'far', ips: ['192.0.2.9'], services: { 'east-west': {} } });
const peer = spiffeId({ trustDomain: 'far.example', namespace: 'shop', serviceAccount: 'cart' });
const gatewayName = spiffeId({ trustDomain: 'far.example', namespace: 'net', serviceAccount: 'gateway' });
const eastWestService = {
  ...aService('east-west', { ports: { 15_008: 15_009 }, subjectAltNames: [gatewayName] }),
  vips: [networkAddress('far', '192.0.2.100')],
};

for (const [how, networkGateway, port, gateway] of [
  ['the address of a workload', { kind: 'address', network: 'far', ip: '192.0.2.9', port: 15_008 }, 15_008, [eastWest.identity]],
  [
    'the address of a service',
    { kind: 'address', network: 'far', ip: '192.0.2.100', port: 15_008 },
    15_009,
    [gatewayName, eastWest.identity],
  ],
  ['host name', { kind: 'hostname', host: eastWestService.key, port: 15_008 }, 15_009, [gatewayName, eastWest.identity]],
] as const) {
  const far = aWorkload('far', { network: 'far', ips: [], networkGateway, services: { cart: {} } });

  t.test(`endpoint in another network, gateway by ${how}: a tunnel in a tunnel, asked for the service by name`, async (t) => {
    const store = aStore(web, far, eastWest, eastWestService, aService('cart', { subjectAltNames: [peer] }));
    t.match(route(store, '10.96.0.1'), {
      kind: 'gateway',
      to: { ip: '192.0.2.9', port },
      authority: 'cart.shop.svc.cluster.local:80',
      gateway,
      accepted: [peer],
      via: 'workload',
      workload: { name: 'far' },
    });
  });

  t.test(`waypoint in another network, gateway by ${how}: the same, and the waypoint’s service says who it may be`, async (t) => {
    const away = aWorkload('waypoint', { network: 'far', ips: [], networkGateway, services: { waypoint: {} } });
    const service = aService('waypoint', { vips: ['10.96.0.9'], ports: { 15_008: 15_008 }, subjectAltNames: [peer] });
    const store = aStore(web, cart, away, service, eastWest, eastWestService, aService('cart', { waypoint: byHostname }));
    t.match(route(store, '10.96.0.1', 80), {
      kind: 'gateway',
      to: { ip: '192.0.2.9', port },
      authority: 'cart.shop.svc.cluster.local:80',
      gateway,
      accepted: [peer],
      via: 'waypoint',
      service: { name: 'cart' },
    });
  });
}

t.test('an endpoint in another network without a way to it', async (t) => {
  const lost: GatewayAddress = { kind: 'address', network: 'far', ip: '192.0.2.77', port: 15_008 };
  const far = (networkGateway?: GatewayAddress) =>
    aWorkload('far', { network: 'far', services: { cart: {} }, ...(networkGateway ? { networkGateway } : {}) });
  const service = aService('cart', { subjectAltNames: [peer] });
  t.throws(() => route(aStore(web, far(), service), '10.96.0.1'), { code: 'no_healthy_upstream' }, 'it is no candidate');
  t.match(route(aStore(web, far(), cart, service), '10.96.0.1'), { kind: 'hbone' }, 'a near one is');
  const unknown = { code: 'unknown_destination', message: 'unknown network gateway: far/192.0.2.77' };
  t.throws(() => route(aStore(web, far(lost), service), '10.96.0.1'), unknown);
  const nameless = aStore(web, far({ ...lost, ip: '192.0.2.9' }), eastWest, aService('cart'));
  t.throws(() => route(nameless, '10.96.0.1'), { code: 'unknown_destination', message: /without subject_alt_names/u });
  const away = aWorkload('lone', { network: 'far', ips: [], hostname: 'lone.example' });
  const lone: GatewayAddress = { kind: 'hostname', host: namespacedHostname('shop', 'lone.example'), port: 15_008 };
  const bound = aWorkload('bound', { ips: ['10.0.0.20'], waypoint: lone });
  t.throws(() => route(aStore(web, away, bound), '10.0.0.20'), {
    code: 'unknown_destination',
    message: /^no valid routing destination for workload: .*lone in network far names no network gateway/u,
  });
});

t.test('a workload known by its host name alone: what the name stands for is dialled, in a family of the service', async (t) => {
  const named = (protocol: 'HBONE' | 'TCP') =>
    aWorkload('db', { ips: [], hostname: 'db.example.com', protocol, services: { cart: { 80: 5432 } } });
  const decided = route(aStore(web, named('TCP'), aService('cart')), '10.96.0.1');
  t.match(decided, { kind: 'named', hostname: 'db.example.com', workload: { name: 'db' } });
  if (decided.kind !== 'named') return;
  t.match(decided.at(['2001:db8::5', '192.0.2.5']), { kind: 'plain', to: { ip: '192.0.2.5', port: 5432 } }, 'the family dialled');
  t.match(decided.at(['2001:db8::5']), { kind: 'plain', to: { ip: '2001:db8::5', port: 5432 } });
  const v4 = route(aStore(web, named('HBONE'), aService('cart', { ipFamilies: 'IPv4' })), '10.96.0.1');
  if (v4.kind !== 'named') return;
  t.match(v4.at(['192.0.2.5']), {
    kind: 'hbone',
    to: { ip: '192.0.2.5', port: 15_008 },
    authority: { ip: '192.0.2.5', port: 5432 },
  });
  t.throws(() => v4.at(['2001:db8::5']), {
    code: 'no_healthy_upstream',
    message: /db\.example\.com has no address of a family/u,
  });
  const waypointed = aStore(
    web,
    aWorkload('waypoint', { ips: [], hostname: 'way.example.com', services: { waypoint: {} } }),
    waypoint,
    aService('cart', { waypoint: byHostname }),
  );
  const way = route(waypointed, '10.96.0.1');
  t.match(way, { kind: 'named', hostname: 'way.example.com' });
  if (way.kind === 'named')
    t.match(way.at(['192.0.2.6']), {
      kind: 'hbone',
      to: { ip: '192.0.2.6', port: 15_008 },
      authority: { ip: '10.96.0.1', port: 80 },
    });
});
