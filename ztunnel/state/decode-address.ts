// Address resources of the wire to workloads and services. A resource that cannot be right is refused with its field named (it becomes
// a NACK); unknown enum values of a newer control plane fall back to the default that the protocol documents.
import { canonicalIp, ipFromBytes } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type {
  GatewayAddress as WireGateway,
  LoadBalancing as WireLoadBalancing,
  Port,
  Service as WireService,
  Workload as WireWorkload,
} from '#shared/gen/istio/workload/workload_pb.ts';
import {
  ApplicationTunnel_Protocol,
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  NetworkMode,
  Service_Visibility,
  TunnelProtocol,
  WorkloadStatus,
  WorkloadType,
} from '#shared/gen/istio/workload/workload_pb.ts';
import { isSpiffeId, namespacedHostname, spiffeId, workloadUid } from '#shared/ids.ts';
import type { NamespacedHostname } from '#shared/ids.ts';
import type { CidrVip, GatewayAddress, LoadBalancing, NetworkAddress, PortMap, Scope, Service, Workload } from './model.ts';
import { networkAddress } from './model.ts';

const TYPES: Record<number, Workload['workloadType']> = {
  [WorkloadType.DEPLOYMENT]: 'deployment',
  [WorkloadType.CRONJOB]: 'cronjob',
  [WorkloadType.POD]: 'pod',
  [WorkloadType.JOB]: 'job',
};

const SCOPES: Record<number, Scope> = {
  [LoadBalancing_Scope.REGION]: 'REGION',
  [LoadBalancing_Scope.ZONE]: 'ZONE',
  [LoadBalancing_Scope.SUBZONE]: 'SUBZONE',
  [LoadBalancing_Scope.NODE]: 'NODE',
  [LoadBalancing_Scope.CLUSTER]: 'CLUSTER',
  [LoadBalancing_Scope.NETWORK]: 'NETWORK',
};

const MODES: Record<number, LoadBalancing['mode']> = {
  [LoadBalancing_Mode.STRICT]: 'Strict',
  [LoadBalancing_Mode.FAILOVER]: 'Failover',
  [LoadBalancing_Mode.PASSTHROUGH]: 'Passthrough',
};

const FAMILIES: Record<number, NonNullable<Service['ipFamilies']>> = {
  [IPFamilies.IPV4_ONLY]: 'IPv4',
  [IPFamilies.IPV6_ONLY]: 'IPv6',
  [IPFamilies.DUAL]: 'Dual',
};

/** Throws `invalid_config` naming the field. */
export function decodeWorkload(wire: WireWorkload): Workload {
  if (wire.uid === '') throw invalid('uid', 'is empty');
  if (wire.tunnelProtocol === TunnelProtocol.LEGACY_ISTIO_MTLS)
    throw invalid('tunnel_protocol', 'LEGACY_ISTIO_MTLS is not supported');
  const trustDomain = wire.trustDomain || 'cluster.local';
  const serviceAccount = wire.serviceAccount || 'default';
  const tunnel = wire.applicationTunnel;
  return {
    uid: workloadUid(wire.uid),
    name: wire.name,
    namespace: wire.namespace,
    trustDomain,
    serviceAccount,
    identity: spiffeId({ trustDomain, namespace: wire.namespace, serviceAccount }),
    network: wire.network,
    ips: wire.addresses.map((bytes, index) => ipText(bytes, `addresses[${index}]`)),
    hostname: wire.hostname,
    protocol: wire.tunnelProtocol === TunnelProtocol.HBONE ? 'HBONE' : 'TCP',
    networkMode: wire.networkMode === NetworkMode.HOST_NETWORK ? 'HostNetwork' : 'Standard',
    ...optional('waypoint', wire.waypoint && decodeGateway(wire.waypoint, 'waypoint')),
    ...optional('networkGateway', wire.networkGateway && decodeGateway(wire.networkGateway, 'network_gateway')),
    node: wire.node,
    workloadName: wire.workloadName,
    workloadType: TYPES[wire.workloadType] ?? 'deployment',
    canonicalName: wire.canonicalName,
    canonicalRevision: wire.canonicalRevision,
    nativeTunnel: wire.nativeTunnel,
    ...optional(
      'applicationTunnel',
      tunnel && {
        protocol: tunnel.protocol === ApplicationTunnel_Protocol.PROXY ? ('PROXY' as const) : ('NONE' as const),
        ...optional('port', tunnel.port || undefined),
      },
    ),
    services: new Map(
      Object.entries(wire.services).map(([key, list]) => [parseHostKey(key, `services["${key}"]`), portMap(list.ports)]),
    ),
    authorizationPolicies: wire.authorizationPolicies,
    status: wire.status === WorkloadStatus.UNHEALTHY ? 'Unhealthy' : 'Healthy',
    clusterId: wire.clusterId || 'Kubernetes',
    locality: { region: wire.locality?.region ?? '', zone: wire.locality?.zone ?? '', subzone: wire.locality?.subzone ?? '' },
    capacity: wire.capacity ?? 1,
  };
}

/** Throws `invalid_config` naming the field. `onIgnored` hears of subject names that are no SPIFFE IDs. */
export function decodeService(wire: WireService, onIgnored: (message: string) => void = () => undefined): Service {
  if (wire.hostname === '') throw invalid('hostname', 'is empty');
  const vips: NetworkAddress[] = [];
  const cidrVips: CidrVip[] = [];
  for (const [index, address] of wire.addresses.entries()) {
    const ip = ipText(address.address, `addresses[${index}]`);
    const full = address.address.length * 8;
    const length = address.length ?? full;
    if (length > full) throw invalid(`addresses[${index}].length`, `${length} is more than ${full}`);
    if (length === full) vips.push(networkAddress(address.network, ip));
    else cidrVips.push({ network: address.network, ip, length });
  }
  for (const name of wire.subjectAltNames)
    if (!isSpiffeId(name))
      onIgnored(`service ${wire.namespace}/${wire.hostname}: subject_alt_names: "${name}" is not a SPIFFE ID`);
  return {
    key: namespacedHostname(wire.namespace, wire.hostname),
    name: wire.name,
    namespace: wire.namespace,
    hostname: wire.hostname,
    vips,
    cidrVips,
    ports: portMap(wire.ports),
    subjectAltNames: wire.subjectAltNames.filter(isSpiffeId),
    ...optional('waypoint', wire.waypoint && decodeGateway(wire.waypoint, 'waypoint')),
    weightedWaypoints: wire.weightedWaypoints.flatMap(({ waypoint, weight }, index) =>
      waypoint ? [{ waypoint: decodeGateway(waypoint, `weighted_waypoints[${index}].waypoint`), weight }] : [],
    ),
    ...optional('loadBalancing', wire.loadBalancing && decodeLoadBalancing(wire.loadBalancing)),
    ...optional('ipFamilies', FAMILIES[wire.ipFamilies]),
    canonical: wire.canonical,
    visibility: wire.visibility === Service_Visibility.NAMESPACE ? 'Namespace' : 'Public',
  };
}

function decodeLoadBalancing(wire: WireLoadBalancing): LoadBalancing {
  return {
    mode: MODES[wire.mode] ?? 'Standard',
    preferences: wire.routingPreference.flatMap((scope) => SCOPES[scope] ?? []),
    health: wire.healthPolicy === LoadBalancing_HealthPolicy.ALLOW_ALL ? 'AllowAll' : 'OnlyHealthy',
  };
}

function decodeGateway(wire: WireGateway, field: string): GatewayAddress {
  const { destination, hboneMtlsPort: port } = wire;
  switch (destination.case) {
    case 'address':
      return {
        kind: 'address',
        network: destination.value.network,
        ip: ipText(destination.value.address, `${field}.address`),
        port,
      };
    case 'hostname':
      return { kind: 'hostname', host: namespacedHostname(destination.value.namespace, destination.value.hostname), port };
    case undefined:
      throw invalid(field, 'names neither an address nor a hostname');
  }
}

function portMap(ports: readonly Port[]): PortMap {
  return new Map(ports.map((port) => [port.servicePort, port.targetPort]));
}

function parseHostKey(text: string, field: string): NamespacedHostname {
  const slash = text.indexOf('/');
  if (slash < 0 || slash === text.length - 1) throw invalid(field, 'is not NAMESPACE/HOSTNAME');
  return namespacedHostname(text.slice(0, slash), text.slice(slash + 1));
}

function ipText(bytes: Uint8Array, field: string): string {
  const ip = ipFromBytes(bytes);
  if (ip === undefined) throw invalid(field, `${bytes.length} bytes are no IP address`);
  return canonicalIp(ip) ?? ip;
}

/** `{ key: value }`, or nothing when the value is unset: unset and undefined differ under exactOptionalPropertyTypes. */
function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };
}

function invalid(field: string, reason: string): MeshError {
  return new MeshError('invalid_config', `${field}: ${reason}`);
}
