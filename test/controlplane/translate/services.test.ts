// Service → Service of WDS, and the binding to waypoints.
import t from 'tap';
import { appProtocol } from '../../../controlplane/translate/ports.ts';
import { translateService } from '../../../controlplane/translate/services.ts';
import {
  AppProtocol,
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
} from '../../../shared/gen/istio/workload/workload_pb.ts';
import type { Service as ServiceMessage } from '../../../shared/gen/istio/workload/workload_pb.ts';
import type { Service } from '../../../shared/kube/kinds.ts';
import type { KubeObject } from '../../../shared/kube/object.ts';
import { aGateway, aNamespace, aService, SETTINGS, storeOf } from './objects.ts';

function translated(service: Service, ...others: KubeObject[]): ServiceMessage | undefined {
  return translateService(service, storeOf(service, ...others), SETTINGS);
}

t.test('names, addresses and ports', async (t) => {
  t.match(translated(aService()), {
    name: 'web',
    namespace: 'shop',
    hostname: 'web.shop.svc.cluster.local',
    addresses: [{ network: '', address: Uint8Array.of(10, 96, 0, 1) }],
    ports: [{ servicePort: 80, targetPort: 8080, appProtocol: AppProtocol.UNKNOWN }],
    canonical: true,
    ipFamilies: IPFamilies.AUTOMATIC,
  });
  t.equal(translated(aService({}, { type: 'ExternalName' })), undefined);
  t.same(translated(aService({}, { clusterIP: 'None' }))?.addresses, [], 'headless');
  const dual = translated(aService({}, { clusterIPs: ['10.96.0.1', 'fd00::1'], ipFamilies: ['IPv4', 'IPv6'] }));
  t.equal(dual?.addresses.length, 2);
  t.equal(dual?.ipFamilies, IPFamilies.DUAL);
  t.match(translated(aService({}, { ports: [{ port: 80, targetPort: 'http' }] }))?.ports, [{ targetPort: 0 }], 'named target');
  t.equal(translated(aService({}, { ports: [{ port: 53, protocol: 'UDP' }] }))?.ports.length, 1, 'UDP is listed');
});

t.test('application protocols', async (t) => {
  const cases: [string | undefined, string | undefined, AppProtocol][] = [
    ['http', undefined, AppProtocol.HTTP11],
    ['http-web', undefined, AppProtocol.HTTP11],
    ['http2', undefined, AppProtocol.HTTP2],
    ['http2-x', undefined, AppProtocol.HTTP2],
    ['grpc', undefined, AppProtocol.GRPC],
    ['grpc-web-x', undefined, AppProtocol.GRPC],
    ['tcp-redis', undefined, AppProtocol.TCP],
    ['redis', undefined, AppProtocol.TCP],
    ['https', undefined, AppProtocol.TLS],
    ['tls-x', undefined, AppProtocol.TLS],
    ['web', undefined, AppProtocol.UNKNOWN],
    ['constructor', undefined, AppProtocol.UNKNOWN],
    [undefined, undefined, AppProtocol.UNKNOWN],
    ['tcp', 'kubernetes.io/h2c', AppProtocol.HTTP2],
    ['http', 'unknown.example/x', AppProtocol.UNKNOWN],
  ];
  for (const [name, declared, expected] of cases) {
    const port = { port: 80, ...(name !== undefined && { name }), ...(declared !== undefined && { appProtocol: declared }) };
    t.equal(appProtocol(port), expected, `${name} ${declared}`);
  }
  t.equal(appProtocol({ port: 53, name: 'http', protocol: 'UDP' }), AppProtocol.UNKNOWN);
});

t.test('load balancing', async (t) => {
  const { NETWORK, REGION, ZONE, SUBZONE, NODE } = LoadBalancing_Scope;
  const { STRICT, FAILOVER } = LoadBalancing_Mode;
  const annotation = 'networking.istio.io/traffic-distribution';
  const of = (service: Service, ...others: KubeObject[]): unknown => translated(service, ...others)?.loadBalancing;
  t.equal(of(aService()), undefined);
  t.match(of(aService({}, { internalTrafficPolicy: 'Local', trafficDistribution: 'PreferClose' })), {
    routingPreference: [NODE],
    mode: STRICT,
  });
  t.match(of(aService({}, { trafficDistribution: 'PreferClose' })), {
    routingPreference: [NETWORK, REGION, ZONE],
    mode: FAILOVER,
  });
  t.match(of(aService({}, { trafficDistribution: 'PreferSameNode' })), {
    routingPreference: [NETWORK, REGION, ZONE, SUBZONE, NODE],
  });
  const prefer = { annotations: { [annotation]: 'PreferClose' } };
  t.match(of(aService(prefer)), { mode: FAILOVER });
  t.match(of(aService(), aNamespace('shop', prefer)), { mode: FAILOVER });
  t.match(of(aService({}, { publishNotReadyAddresses: true })), { healthPolicy: LoadBalancing_HealthPolicy.ALLOW_ALL });
});

t.test('waypoint binding', async (t) => {
  const use = (labels: Record<string, string>): Service => aService({ labels });
  const label = { 'istio.io/use-waypoint': 'waypoint' };
  const address = { destination: { case: 'address', value: { address: Uint8Array.of(10, 96, 9, 9) } }, hboneMtlsPort: 15008 };
  const bound = (service: Service, ...others: KubeObject[]): unknown => translated(service, ...others)?.waypoint;

  t.match(bound(use(label), aGateway()), address, 'own label');
  t.match(bound(aService(), aNamespace('shop', { labels: label }), aGateway()), address, 'the namespace’s label');
  t.equal(bound(aService(), aGateway()), undefined, 'no label');
  t.equal(
    bound(use({ 'istio.io/use-waypoint': 'none' }), aNamespace('shop', { labels: label }), aGateway()),
    undefined,
    'none opts out',
  );
  const missing = use({ 'istio.io/use-waypoint': 'missing' });
  t.equal(bound(missing, aNamespace('shop', { labels: label }), aGateway()), undefined, 'no fallback to the namespace');
  t.equal(bound(use(label), aGateway({}, {}, {})), undefined, 'not ready: no address');
  t.equal(bound(use(label), aGateway({ labels: { 'istio.io/waypoint-for': 'workload' } })), undefined, 'for workloads only');
  t.match(bound(use(label), aGateway({ labels: { 'istio.io/waypoint-for': 'all' } })), address);
  const gatewayClass = {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'GatewayClass',
    metadata: { name: 'istio-waypoint', namespace: '', labels: { 'istio.io/waypoint-for': 'none' } },
  };
  t.equal(bound(use(label), aGateway(), gatewayClass), undefined, 'the class says none');
  t.equal(
    bound(use({ ...label, 'gateway.istio.io/managed': 'istio.io-mesh-controller' }), aGateway()),
    undefined,
    'a waypoint’s own service',
  );
  const host = aGateway({}, {}, { addresses: [{ value: '10.96.9.9' }, { type: 'Hostname', value: 'w.example' }] });
  t.match(
    bound(use(label), host),
    { destination: { case: 'hostname', value: { namespace: 'shop', hostname: 'w.example' } } },
    'a host name is preferred',
  );
});

t.test('waypoints of another namespace', async (t) => {
  const service = aService({ labels: { 'istio.io/use-waypoint': 'waypoint', 'istio.io/use-waypoint-namespace': 'infra' } });
  const gateway = (from?: 'All' | 'Same' | 'Selector' | 'None'): KubeObject => {
    const namespaces = { ...(from && { from }), selector: { matchLabels: { team: 'x' } } };
    return aGateway(
      { namespace: 'infra' },
      { listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE', allowedRoutes: { namespaces } }] },
    );
  };
  const bound = (...others: KubeObject[]): boolean => translated(service, ...others)?.waypoint !== undefined;
  t.equal(bound(gateway()), false, 'the same namespace only, by default');
  t.equal(bound(gateway('Same')), false);
  t.equal(bound(gateway('None')), false);
  t.equal(bound(gateway('All')), true);
  t.equal(bound(gateway('Selector')), false);
  t.equal(bound(gateway('Selector'), aNamespace('shop', { labels: { team: 'x' } })), true);
});

t.test('canaries', async (t) => {
  const labels = { 'istio.io/use-waypoint': 'waypoint', 'istio.io/use-waypoint-canary': 'canary' };
  const weights = (weight: string | undefined, ...others: KubeObject[]): unknown => {
    const annotations = weight === undefined ? {} : { 'istio.io/use-waypoint-canary-weight': weight };
    return translated(aService({ labels, annotations }), aGateway(), ...others)?.weightedWaypoints.map((each) => each.weight);
  };
  const canary = aGateway({ name: 'canary' });
  t.same(weights('30', canary), [70, 30]);
  t.same(weights(undefined, canary), [100, 0]);
  t.same(weights('200', canary), [], 'a bad weight: the primary alone');
  t.same(weights('30'), [], 'no such canary: the primary alone');
});
