// The columns of `culvert get`, kind by kind.
import type { Gateway, HTTPRoute } from '#shared/kube/gateway-api.ts';
import type { AuthorizationPolicy, PeerAuthentication } from '#shared/kube/istio-api.ts';
import type { Condition, Deployment, Kind, Node, Pod, Service } from '#shared/kube/kinds.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { age } from './output.ts';
import type { Column } from './output.ts';

export function columnsOf(kind: Kind, withNamespace: boolean): Column<KubeObject>[] {
  const namespace: Column<KubeObject>[] = withNamespace
    ? [{ title: 'NAMESPACE', value: ({ metadata }) => metadata.namespace }]
    : [];
  return [...namespace, { title: 'NAME', value: ({ metadata }) => metadata.name }, ...special(kind)];
}

function special(kind: Kind): Column<KubeObject>[] {
  switch (kind) {
    case 'Pod':
      return podColumns as Column<KubeObject>[];
    case 'Service':
      return serviceColumns as Column<KubeObject>[];
    case 'Node':
      return nodeColumns as Column<KubeObject>[];
    case 'Deployment':
      return [{ title: 'REPLICAS', value: (object) => (object as Deployment).spec?.replicas ?? 1 }];
    case 'Gateway':
      return gatewayColumns as Column<KubeObject>[];
    case 'HTTPRoute':
      return [{ title: 'PARENTS', value: (object) => (object as HTTPRoute).spec?.parentRefs?.map(({ name }) => name).join(',') }];
    case 'AuthorizationPolicy':
      return [{ title: 'ACTION', value: (object) => (object as AuthorizationPolicy).spec?.action ?? 'ALLOW' }];
    case 'PeerAuthentication':
      return [{ title: 'MODE', value: (object) => (object as PeerAuthentication).spec?.mtls?.mode }];
    case 'Namespace':
      return [
        { title: 'DATAPLANE', value: ({ metadata }) => metadata.labels?.['istio.io/dataplane-mode'] },
        { title: 'WAYPOINT', value: ({ metadata }) => metadata.labels?.['istio.io/use-waypoint'] },
      ];
    case 'ConfigMap':
    case 'GatewayClass':
    case 'ServiceAccount':
      return [{ title: 'LABELS', wide: true, value: labels }];
  }
}

interface ContainerStatus {
  ready?: boolean;
  restartCount?: number;
  state?: { waiting?: { reason?: string } };
}

const podColumns: Column<Pod>[] = [
  {
    title: 'READY',
    value: (pod) => `${statuses(pod).filter(({ ready }) => ready === true).length}/${pod.spec?.containers.length ?? 0}`,
  },
  { title: 'STATUS', value: podState },
  { title: 'RESTARTS', value: (pod) => statuses(pod).reduce((sum, { restartCount = 0 }) => sum + restartCount, 0) },
  { title: 'AGE', value: (pod) => age(pod.status?.startTime, Date.now()) },
  { title: 'IP', value: (pod) => pod.status?.podIP },
  { title: 'NODE', value: (pod) => pod.spec?.nodeName },
  { title: 'MESH', value: (pod) => pod.metadata.annotations?.['ambient.istio.io/redirection'] },
  { title: 'MESSAGE', value: (pod) => whyNotReady(pod, 120), wide: false },
  { title: 'MESSAGE', value: (pod) => whyNotReady(pod), wide: true },
];

const serviceColumns: Column<Service>[] = [
  { title: 'TYPE', value: ({ spec }) => spec?.type ?? 'ClusterIP' },
  { title: 'CLUSTER-IP', value: ({ spec }) => spec?.clusterIP },
  { title: 'PORTS', value: ({ spec }) => spec?.ports?.map(({ port, protocol = 'TCP' }) => `${port}/${protocol}`).join(',') },
  { title: 'WAYPOINT', value: ({ metadata }) => metadata.labels?.['istio.io/use-waypoint'] },
  { title: 'SELECTOR', wide: true, value: ({ spec }) => formatLabels(spec?.selector) },
];

const nodeColumns: Column<Node>[] = [
  { title: 'STATUS', value: ({ status }) => (isTrue(status?.conditions, 'Ready') ? 'Ready' : 'NotReady') },
  { title: 'ADDRESS', value: ({ status }) => status?.addresses?.find(({ type }) => type === 'InternalIP')?.address },
  { title: 'POD-CIDR', value: ({ spec }) => spec?.podCIDR },
  { title: 'LABELS', wide: true, value: labels },
];

const gatewayColumns: Column<Gateway>[] = [
  { title: 'CLASS', value: ({ spec }) => spec?.gatewayClassName },
  { title: 'TRAFFIC TYPE', value: ({ metadata }) => metadata.labels?.['istio.io/waypoint-for'] },
  {
    title: 'PROGRAMMED',
    value: ({ status }) => status?.conditions?.find(({ type }) => type === 'Programmed')?.status ?? 'Unknown',
  },
];

function statuses(pod: Pod): ContainerStatus[] {
  return (pod.status as { containerStatuses?: ContainerStatus[] } | undefined)?.containerStatuses ?? [];
}

/** As kubectl: the reason of the first waiting container, else the pod's own reason, else its phase. */
function podState(pod: Pod): string {
  if (pod.metadata.deletionTimestamp !== undefined) return 'Terminating';
  const waiting = statuses(pod).find(({ state }) => state?.waiting)?.state?.waiting?.reason;
  const phase = pod.status?.phase === 'Succeeded' ? 'Completed' : pod.status?.phase;
  return waiting ?? pod.status?.reason ?? phase ?? 'Pending';
}

/** Cut to `limit` characters. */
function whyNotReady(pod: Pod, limit = Number.POSITIVE_INFINITY): string {
  const ready = pod.status?.conditions?.find(({ type }) => type === 'Ready');
  const text = (ready?.status === 'False' ? ready.message : undefined) ?? pod.status?.message ?? '';
  return text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
}

function isTrue(conditions: readonly Condition[] | undefined, wanted: string): boolean {
  return conditions?.some(({ type, status }) => type === wanted && status === 'True') ?? false;
}

function labels({ metadata }: KubeObject): string | undefined {
  return formatLabels(metadata.labels);
}

function formatLabels(map: Record<string, string> | undefined): string | undefined {
  return (
    map &&
    Object.entries(map)
      .map(([key, value]) => `${key}=${value}`)
      .join(',')
  );
}
