// Pod → Workload, rule by rule.
import t from 'tap';
import { translateWorkload } from '../../../controlplane/translate/workloads.ts';
import {
  AppProtocol,
  NetworkMode,
  TunnelProtocol,
  WorkloadStatus,
  WorkloadType,
} from '../../../shared/gen/istio/workload/workload_pb.ts';
import type { Workload } from '../../../shared/gen/istio/workload/workload_pb.ts';
import type { KubeObject } from '../../../shared/kube/object.ts';
import type { Pod } from '../../../shared/kube/kinds.ts';
import { aGateway, aNamespace, aNode, aPod, aService, SETTINGS, storeOf } from './objects.ts';

function workload(pod: Pod, ...others: KubeObject[]): Workload | undefined {
  return translateWorkload(pod, [], storeOf(pod, ...others), SETTINGS);
}

t.test('the fields of an ordinary pod', async (t) => {
  const pod = aPod({}, { nodeName: 'n1', serviceAccountName: 'web' });
  const region = { 'topology.kubernetes.io/region': 'r', 'topology.kubernetes.io/zone': 'z', 'topology.istio.io/subzone': 's' };
  t.match(workload(pod, aNode('n1', region)), {
    uid: 'Kubernetes//Pod/shop/a',
    name: 'a',
    namespace: 'shop',
    addresses: [Uint8Array.of(10, 0, 0, 1)],
    tunnelProtocol: TunnelProtocol.NONE,
    nativeTunnel: false,
    trustDomain: '',
    serviceAccount: 'web',
    node: 'n1',
    canonicalName: 'web',
    canonicalRevision: 'latest',
    workloadType: WorkloadType.POD,
    workloadName: 'a',
    status: WorkloadStatus.HEALTHY,
    clusterId: 'Kubernetes',
    networkMode: NetworkMode.STANDARD,
    locality: { region: 'r', zone: 'z', subzone: 's' },
  });
});

t.test('another trust domain is told', async (t) => {
  const pod = aPod();
  t.equal(translateWorkload(pod, [], storeOf(pod), { ...SETTINGS, trustDomain: 'other' })?.trustDomain, 'other');
});

t.test('when a pod is a workload', async (t) => {
  const cases: [string, Pod['status'], boolean][] = [
    ['no address', { podIPs: [] }, false],
    ['pending with an address', { phase: 'Pending' }, true],
    ['succeeded', { phase: 'Succeeded' }, false],
    ['failed', { phase: 'Failed' }, false],
  ];
  for (const [what, status, emitted] of cases) t.equal(workload(aPod({}, {}, status)) !== undefined, emitted, what);
  const both = workload(aPod({}, {}, { podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] }));
  t.same(
    both?.addresses.map(({ length }) => length),
    [4, 16],
    'all addresses',
  );
});

t.test('health', async (t) => {
  t.equal(workload(aPod({}, {}, { conditions: [{ type: 'Ready', status: 'False' }] }))?.status, WorkloadStatus.UNHEALTHY);
  t.equal(workload(aPod({}, {}, { conditions: [] }))?.status, WorkloadStatus.UNHEALTHY);
  t.equal(workload(aPod({ deletionTimestamp: '2026-01-01T00:00:00Z' }))?.status, WorkloadStatus.UNHEALTHY, 'deleting');
});

t.test('tunnel protocol', async (t) => {
  const redirection = (value: string): Pod => aPod({ annotations: { 'ambient.istio.io/redirection': value } });
  t.match(workload(redirection('enabled')), { tunnelProtocol: TunnelProtocol.HBONE, nativeTunnel: false });
  t.match(workload(redirection('pending')), { tunnelProtocol: TunnelProtocol.NONE });
  t.match(workload(aPod({ labels: { 'networking.istio.io/tunnel': 'http' } })), {
    tunnelProtocol: TunnelProtocol.HBONE,
    nativeTunnel: true,
  });
  t.match(workload(aPod({}, { hostNetwork: true })), { networkMode: NetworkMode.HOST_NETWORK });
});

t.test('names', async (t) => {
  const owned = (kind: string, name: string, labels: Record<string, string> = {}): Pod =>
    aPod({ labels, ownerReferences: [{ apiVersion: 'apps/v1', kind, name, controller: true }] });
  const owners: [Pod, string][] = [
    [owned('Deployment', 'web'), 'web'],
    [owned('ReplicaSet', 'web-5d9f', { 'pod-template-hash': '5d9f' }), 'web'],
    [owned('ReplicaSet', 'web-5d9f'), 'web-5d9f'],
    [owned('Job', 'tick-28000001'), 'tick'],
    [owned('Job', 'once'), 'once'],
    [owned('StatefulSet', 'db'), 'db'],
  ];
  for (const [pod, name] of owners) t.match(workload(pod), { workloadName: name, canonicalName: name });
  const canonical: [Record<string, string>, string, string][] = [
    [{ app: '3', 'app.kubernetes.io/name': '2', 'service.istio.io/canonical-name': '1' }, '1', 'latest'],
    [{ app: '3', 'app.kubernetes.io/name': '2', version: '3' }, '2', '3'],
    [{ app: '3', version: '3', 'app.kubernetes.io/version': '2' }, '3', '2'],
    [{ 'app.kubernetes.io/version': '2', 'service.istio.io/canonical-revision': '1' }, 'a', '1'],
  ];
  for (const [labels, canonicalName, canonicalRevision] of canonical)
    t.match(workload(aPod({ labels })), { canonicalName, canonicalRevision });
});

t.test('services', async (t) => {
  const ports = (...services: KubeObject[]): unknown =>
    Object.entries(workload(aPod(), ...services)?.services ?? {}).map(([name, list]) => [
      name,
      list.ports.map(({ servicePort, targetPort }) => [servicePort, targetPort]),
    ]);
  const key = 'shop/web.shop.svc.cluster.local';
  t.same(ports(aService()), [[key, [[80, 8080]]]]);
  t.same(ports(aService({}, { ports: [{ port: 80 }] })), [[key, [[80, 80]]]], 'no target: the same port');
  t.same(ports(aService({}, { ports: [{ port: 80, targetPort: 'http' }] })), [[key, [[80, 8080]]]], 'a named target');
  t.same(ports(aService({}, { ports: [{ port: 80, targetPort: 'other' }] })), [[key, []]], 'a name that the pod does not have');
  t.same(ports(aService({}, { selector: { app: 'other' } })), []);
  t.same(ports(aService({}, { selector: {} })), [], 'no selector selects nothing');
  t.same(ports(aService({ namespace: 'other' })), [], 'of its own namespace only');
  t.same(ports(aService({}, { type: 'ExternalName' })), []);
  const sidecar = aPod(
    {},
    {
      containers: [{ name: 'app' }],
      initContainers: [{ name: 's', restartPolicy: 'Always', ports: [{ name: 'http', containerPort: 9 }] }],
    },
  );
  t.match(
    workload(sidecar, aService({}, { ports: [{ port: 80, targetPort: 'http' }] }))?.services[key],
    { ports: [{ targetPort: 9 }] },
    'init containers that go on',
  );
  t.match(workload(aPod(), aService({}, { ports: [{ name: 'grpc-x', port: 80 }] }))?.services[key], {
    ports: [{ appProtocol: AppProtocol.GRPC }],
  });
});

t.test('waypoints are for workloads only where they say so', async (t) => {
  const bound = aPod({ labels: { 'istio.io/use-waypoint': 'waypoint' } });
  const gateway = (use: string | undefined): KubeObject =>
    aGateway(use === undefined ? {} : { labels: { 'istio.io/waypoint-for': use } });
  for (const use of ['workload', 'all']) t.match(workload(bound, gateway(use))?.waypoint, { hboneMtlsPort: 15008 }, use);
  for (const use of ['service', 'none', undefined])
    t.equal(workload(bound, gateway(use))?.waypoint, undefined, use ?? 'no label');
  const own = aPod({ labels: { 'istio.io/use-waypoint': 'waypoint', 'gateway.istio.io/managed': 'istio.io-mesh-controller' } });
  t.equal(workload(own, gateway('all'))?.waypoint, undefined, 'a waypoint has none itself');
  const namespace = aNamespace('shop', { labels: { 'istio.io/use-waypoint': 'waypoint' } });
  t.ok(workload(aPod(), namespace, gateway('all'))?.waypoint, 'by its namespace');
  t.equal(
    workload(aPod({ labels: { 'istio.io/use-waypoint': 'none' } }), namespace, gateway('all'))?.waypoint,
    undefined,
    'none opts out',
  );
});

t.test("a waypoint's own pods may want PROXY", async (t) => {
  const pod = aPod({ labels: { 'gateway.networking.k8s.io/gateway-name': 'waypoint' } });
  const gateway = (binding: string): KubeObject =>
    aGateway({ annotations: { 'ambient.istio.io/waypoint-inbound-binding': binding } });
  t.match(workload(pod, gateway('PROXY/15088'))?.applicationTunnel, { protocol: 1, port: 15088 });
  t.match(workload(pod, gateway('PROXY'))?.applicationTunnel, { protocol: 1, port: 0 });
  t.equal(workload(pod, gateway('NONE'))?.applicationTunnel, undefined);
  t.equal(workload(pod, aGateway())?.applicationTunnel, undefined);
});
