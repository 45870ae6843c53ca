// Rows of the outbound table whose explanation needs no running ztunnel: weighted waypoints, a waypoint's own traffic, other networks, host
// names, dry runs, and what a person reads of each.
import t from 'tap';
import { describe } from '../../../cli/commands/explain.ts';
import type { HostPort } from '#shared/address.ts';
import { loadConfig } from '../../../ztunnel/config.ts';
import { explain } from '../../../ztunnel/explain/explain.ts';
import type { GatewayAddress, Policy, Service, Workload } from '../../../ztunnel/state/model.ts';
import { networkAddress } from '../../../ztunnel/state/model.ts';
import { aMatch, aPolicy, aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

const web = aWorkload('web', { ips: ['10.0.0.1'] });
const cart = aWorkload('cart', { ips: ['10.0.0.2'], services: { cart: {} } });
const waypointPod = aWorkload('waypoint', { ips: ['10.0.0.9'], nativeTunnel: true, services: { waypoint: {} } });
const waypoint = aService('waypoint', { vips: ['10.96.0.9'], ports: { 15_008: 15_008 } });
const byHostname: GatewayAddress = { kind: 'hostname', host: waypoint.key, port: 15_008 };
const VIP = { ip: '10.96.0.1', port: 80 };

interface Asked {
  readonly source?: Workload;
  readonly to?: HostPort;
  readonly env?: Record<string, string>;
  readonly served?: boolean;
}

function explained(entries: readonly (Workload | Service | Policy)[], { source = web, to = VIP, env = {}, served }: Asked = {}) {
  const config = loadConfig((name) => ({ NODE_NAME: 'node-1', ...env })[name], { fileExists: () => false });
  return explain({ config, store: aStore(...entries), serves: () => served ?? false }, source, to);
}

t.test('weighted waypoints: the weights that are drawn among', async (t) => {
  const canary = aService('canary', { vips: ['10.96.0.10'], ports: { 15_008: 15_008 } });
  const weightedWaypoints = [
    { waypoint: byHostname, weight: 90 },
    { waypoint: { kind: 'hostname', host: canary.key, port: 15_008 } as const, weight: 10 },
  ];
  const all = [web, cart, waypointPod, waypoint, canary, aService('cart', { weightedWaypoints })];
  const { rule, why, nextHop, endpoints, policies } = await explained(all);
  t.equal(rule, 'waypoint of the service');
  t.same(why, ['the service has a waypoint, which chooses the endpoint', 'drawn among waypoints of the weights 90, 10']);
  t.match(nextHop, { kind: 'hbone', address: '10.0.0.9:15008', workload: 'shop/waypoint', authority: '10.96.0.1:80' });
  t.same([endpoints, policies], [[], undefined], 'both are for the waypoint to decide');
});

t.test('from the waypoint itself: not to it again', async (t) => {
  const bound = aService('cart', { waypoint: byHostname });
  const { rule, why, nextHop } = await explained([cart, waypointPod, waypoint, bound], { source: waypointPod });
  t.equal(rule, 'service');
  t.same(why, [
    'the address is one of the service',
    'the source is its waypoint itself, so that it is not asked again',
    'the workload takes tunnels (HBONE)',
  ]);
  t.match(nextHop, { address: '10.0.0.2:15008', identities: [cart.identity] });
  t.equal(
    (await explained([web, cart, waypointPod, waypoint, bound])).rule,
    'waypoint of the service',
    'everybody else goes there',
  );
  const workload = aWorkload('cart', { ips: ['10.0.0.2'], waypoint: byHostname });
  const direct = { source: waypointPod, to: { ip: '10.0.0.2', port: 80 } };
  t.match(
    (await explained([workload, waypointPod, waypoint], direct)).why,
    { 1: /its waypoint itself/u },
    'by a pod’s address too',
  );
});

const eastWest = aWorkload('east-west', { network: 'far', ips: ['192.0.2.9'] });
const far = aWorkload('far', {
  network: 'far',
  ips: ['10.0.0.2'],
  services: { cart: {} },
  networkGateway: { kind: 'address', network: 'far', ip: '192.0.2.9', port: 15_008 },
});

t.test('another network: through which gateway, and who must prove to be whom', async (t) => {
  const service = aService('cart', { subjectAltNames: [far.identity] });
  const explanation = await explained([web, far, eastWest, service]);
  t.match(explanation, {
    rule: 'service',
    nextHop: {
      kind: 'gateway',
      address: '192.0.2.9:15008',
      workload: 'shop/far',
      authority: 'cart.shop.svc.cluster.local:80',
      identities: [far.identity],
      gatewayIdentities: [eastWest.identity],
    },
    endpoints: [{ workload: 'shop/far', address: 'network gateway far/192.0.2.9', group: 0 }],
  });
  t.same(explanation.why, ['the address is one of the service', 'it is in the network far, reached through a network gateway']);
  t.equal(explanation.policies, undefined, 'the other network decides for itself');
  t.match(describe(explanation), /^OF THE GATEWAY {6}spiffe:\/\/cluster\.local\/ns\/shop\/sa\/east-west$/mu);
  t.match(await explained([web, far, eastWest, aService('cart')]), {
    error: { code: 'unknown_destination', message: /without subject_alt_names/u, responseFlags: 'CONNECT' },
  });
  const away = aWorkload('waypoint', { ...far, services: { waypoint: {} } });
  const names = { ...waypoint, subjectAltNames: [far.identity] };
  const bound = await explained([web, cart, away, eastWest, names, aService('cart', { waypoint: byHostname })]);
  t.same(bound.why, [
    'the service has a waypoint, which chooses the endpoint',
    'it is in the network far, reached through a network gateway',
  ]);
});

t.test('known by its host name alone', async (t) => {
  const db = aWorkload('db', { ips: [], hostname: 'db.example.com', protocol: 'TCP', services: { cart: { 80: 5432 } } });
  const explanation = await explained([web, db, aService('cart')]);
  t.match(explanation, { nextHop: { kind: 'named', address: 'db.example.com', workload: 'shop/db', identities: [] } });
  t.equal(explanation.why.at(-1), 'the workload is known by its host name alone, which is looked up for each connection');
  t.match(explanation.endpoints, [{ workload: 'shop/db', address: 'db.example.com:5432' }]);
});

t.test('dry runs: what they would say, beside what is said', async (t) => {
  const port = aMatch({ destinationPorts: [8080] });
  const explanation = await explained([
    web,
    cart,
    aService('cart'),
    aPolicy('in', { matches: [port] }),
    aPolicy('would-deny', { action: 'Deny', dryRun: true, matches: [port] }),
    aPolicy('would-allow', { dryRun: true }),
  ]);
  const dryRun = ['dry-run: deny policy match: shop/would-deny', 'dry-run: no allow policies match'];
  t.same(explanation.policies, { allowed: true, reason: 'allowed by shop/in', dryRun });
  t.match(
    describe(explanation),
    /^POLICIES {12}let it in: allowed by shop\/in\n {20}dry-run: deny policy match: shop\/would-deny\n {20}dry-run: no allow/mu,
  );
});

t.test('within the node: joined when both are served here, unless tunnels are asked for', async (t) => {
  const all = [web, cart, aService('cart')];
  t.match(await explained(all, { served: true }), { nextHop: { kind: 'same-node', address: '10.0.0.2:8080' } });
  t.match(await explained(all, { served: false }), { nextHop: { kind: 'hbone' } });
  const tunnelled = await explained(all, { served: true, env: { SAME_NODE: 'hbone' } });
  t.match(tunnelled, { nextHop: { kind: 'hbone' } });
  t.equal(tunnelled.why.at(-1), 'SAME_NODE=hbone: also within the node');
});

t.test('PASSTHROUGH, and an address of this network that another one has too', async (t) => {
  const loadBalancing = { mode: 'Passthrough', preferences: [], health: 'OnlyHealthy' } as const;
  t.match(await explained([web, cart, aService('cart', { loadBalancing })]), {
    rule: 'service',
    why: ['the service asks for PASSTHROUGH: the address that was dialled is used'],
    nextHop: { kind: 'passthrough', address: '10.96.0.1:80' },
  });
  const elsewhere = { ...aService('cart'), vips: [networkAddress('far', '10.96.0.1')] };
  t.equal((await explained([web, cart, elsewhere])).rule, 'as it was');
});
