// Pod → istio.workload.Workload (facts: control plane 1.4).
import { create } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
import {
  NetworkMode,
  TunnelProtocol,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '#shared/gen/istio/workload/workload_pb.ts';
import type { PortList, Workload } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Pod } from '#shared/kube/kinds.ts';
import { matchesLabels } from '#shared/kube/selectors.ts';
import type { ObjectView } from '../store/store.ts';
import { workloadPort } from './ports.ts';
import { hostnameOf } from './settings.ts';
import type { MeshSettings } from './settings.ts';
import { applicationTunnel, isGatewayOwn, resolveWaypoint } from './waypoints.ts';
import { boundWaypoint } from './waypoint-binding.ts';

/** Set by the CNI agent when the Pod's traffic is redirected: only then can it be reached over HBONE. */
const REDIRECTION = 'ambient.istio.io/redirection';
/** On a Pod that speaks HBONE itself. */
const TUNNEL = 'networking.istio.io/tunnel';
const DEFAULT_TRUST_DOMAIN = 'cluster.local';

export function workloadUid(namespace: string, name: string, settings: MeshSettings): string {
  return `${settings.clusterId}//Pod/${namespace}/${name}`;
}

/** Undefined while the Pod has no address, and when it is finished. `policies` are the names that it must enforce. */
export function translateWorkload(
  pod: Pod,
  policies: string[],
  objects: ObjectView,
  settings: MeshSettings,
): Workload | undefined {
  const { metadata, spec, status } = pod;
  const addresses = podAddresses(pod);
  if (addresses.length === 0 || status?.phase === 'Succeeded' || status?.phase === 'Failed') return undefined;
  const namespace = objects.get('Namespace', '', metadata.namespace);
  const from = { namespace: metadata.namespace, labels: namespace?.metadata.labels };
  const waypoint = isGatewayOwn(pod)
    ? undefined
    : resolveWaypoint(boundWaypoint(pod, objects), 'workload', from, objects, settings);
  const tunnel = applicationTunnel(pod, objects);
  const locality = localityOf(spec?.nodeName, objects);
  const name = ownerName(pod);
  const native = metadata.labels?.[TUNNEL] === 'http';
  const captured = metadata.annotations?.[REDIRECTION] === 'enabled';
  return create(WorkloadSchema, {
    uid: workloadUid(metadata.namespace, metadata.name, settings),
    name: metadata.name,
    namespace: metadata.namespace,
    addresses,
    network: settings.network,
    tunnelProtocol: native || captured ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    nativeTunnel: native,
    trustDomain: settings.trustDomain === DEFAULT_TRUST_DOMAIN ? '' : settings.trustDomain,
    serviceAccount: spec?.serviceAccountName ?? 'default',
    node: spec?.nodeName ?? '',
    ...canonical(pod, name),
    workloadType: WorkloadType.POD,
    workloadName: name,
    services: servicesOf(pod, objects, settings),
    authorizationPolicies: policies,
    status: isHealthy(pod) ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    clusterId: settings.clusterId,
    networkMode: spec?.hostNetwork === true ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
    ...(waypoint && { waypoint }),
    ...(tunnel && { applicationTunnel: tunnel }),
    ...(locality && { locality }),
  });
}

function podAddresses({ status }: Pod): Uint8Array[] {
  const texts = status?.podIPs?.map(({ ip }) => ip) ?? (status?.podIP === undefined ? [] : [status.podIP]);
  return texts.map(ipToBytes).filter((address) => address !== undefined);
}

function isHealthy({ metadata, status }: Pod): boolean {
  if (metadata.deletionTimestamp !== undefined) return false;
  return status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false;
}

/** Services of the namespace that select the Pod, each with the ports that the Pod has of it. */
function servicesOf(pod: Pod, objects: ObjectView, settings: MeshSettings): Record<string, Pick<PortList, 'ports'>> {
  const services: Record<string, Pick<PortList, 'ports'>> = {};
  // In order of name: equal content must encode to equal bytes.
  const all = [...objects.list('Service', pod.metadata.namespace)].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  for (const { spec, metadata } of all) {
    const selector = spec?.selector ?? {};
    if (spec?.type === 'ExternalName' || Object.keys(selector).length === 0 || !matchesLabels(selector, pod.metadata.labels))
      continue;
    const ports = (spec?.ports ?? []).map((port) => workloadPort(port, pod)).filter((port) => port !== undefined);
    services[`${metadata.namespace}/${hostnameOf(metadata.name, metadata.namespace, settings)}`] = { ports };
  }
  return services;
}

function localityOf(
  nodeName: string | undefined,
  objects: ObjectView,
): { region: string; zone: string; subzone: string } | undefined {
  const labels = nodeName === undefined ? undefined : objects.get('Node', '', nodeName)?.metadata.labels;
  const region = labels?.['topology.kubernetes.io/region'] ?? '';
  const zone = labels?.['topology.kubernetes.io/zone'] ?? '';
  const subzone = labels?.['topology.istio.io/subzone'] ?? '';
  return region === '' && zone === '' && subzone === '' ? undefined : { region, zone, subzone };
}

function canonical({ metadata: { labels = {} } }: Pod, owner: string): { canonicalName: string; canonicalRevision: string } {
  return {
    canonicalName: labels['service.istio.io/canonical-name'] ?? labels['app.kubernetes.io/name'] ?? labels['app'] ?? owner,
    canonicalRevision:
      labels['service.istio.io/canonical-revision'] ?? labels['app.kubernetes.io/version'] ?? labels['version'] ?? 'latest',
  };
}

/** The Deployment or CronJob that the Pod belongs to, seen through the names of what is between them. */
function ownerName({ metadata }: Pod): string {
  const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
  if (!owner) return metadata.name;
  const hash = metadata.labels?.['pod-template-hash'];
  if (owner.kind === 'ReplicaSet' && hash !== undefined && owner.name.endsWith(`-${hash}`))
    return owner.name.slice(0, -hash.length - 1);
  if (owner.kind === 'Job') return /^(.+)-\d{8,10}$/u.exec(owner.name)?.[1] ?? owner.name;
  return owner.name;
}
