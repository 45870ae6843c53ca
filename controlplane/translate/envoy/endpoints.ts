// The workloads of a service as Envoy endpoints. A workload that speaks HBONE is reached through `connect_originate`, with the
// address that the tunnel leads to in its metadata; any other by plain TCP.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import type { LbEndpointSchema } from '#shared/gen/envoy/config/endpoint/v3/endpoint_components_pb.ts';
import { HealthStatus } from '#shared/gen/envoy/config/core/v3/health_check_pb.ts';
import {
  LoadBalancing_HealthPolicy,
  type Service,
  TunnelProtocol,
  type Workload,
  WorkloadStatus,
} from '#shared/gen/istio/workload/workload_pb.ts';
import { formatHostPort, ipFromBytes } from '#shared/address.ts';
import { internalAddress, metadata, socketAddress } from './messages.ts';
import { serviceKey } from './model.ts';
import { CONNECT_ORIGINATE, ORIGINAL_DST } from './names.ts';

/** The endpoints of one port of a service, for the cluster `name`. */
export function loadAssignment(
  name: string,
  service: Service,
  port: number,
  workloads: readonly Workload[],
  through: 'tunnels' | 'sidecars' = 'tunnels',
): ClusterLoadAssignment {
  const allowAll = service.loadBalancing?.healthPolicy === LoadBalancing_HealthPolicy.ALLOW_ALL;
  const members = workloads
    .filter((workload) => workload.status === WorkloadStatus.HEALTHY || allowAll)
    .toSorted((a, b) => (a.uid < b.uid ? -1 : 1));
  const lbEndpoints = members.flatMap((workload) => {
    const target = workload.services[serviceKey(service)]?.ports.find((candidate) => candidate.servicePort === port)?.targetPort;
    const ip = primaryIp(workload);
    return target !== undefined && target > 0 && ip !== undefined
      ? [through === 'tunnels' ? lbEndpoint(workload, ip, target) : sidecarEndpoint(workload, ip, target)]
      : [];
  });
  return create(ClusterLoadAssignmentSchema, { clusterName: name, endpoints: lbEndpoints.length > 0 ? [{ lbEndpoints }] : [] });
}

/** The first address of a workload. */
export function primaryIp(workload: Workload): string | undefined {
  const [first] = workload.addresses;
  return first && ipFromBytes(first);
}

export function workloadIdentity(workload: Workload): string {
  return `spiffe://${workload.trustDomain || 'cluster.local'}/ns/${workload.namespace}/sa/${workload.serviceAccount}`;
}

/** By its own address; with mTLS where a sidecar ends it. */
function sidecarEndpoint(workload: Workload, ip: string, port: number): MessageInitShape<typeof LbEndpointSchema> {
  const hasSidecar = workload.tunnelProtocol === TunnelProtocol.LEGACY_ISTIO_MTLS;
  return {
    hostIdentifier: { case: 'endpoint', value: { address: socketAddress(ip, port) } },
    healthStatus: HealthStatus.HEALTHY,
    ...(workload.capacity ? { loadBalancingWeight: workload.capacity } : {}),
    metadata: metadata({
      istio: { workload: workloadLabel(workload) },
      ...(hasSidecar ? { 'envoy.transport_socket_match': { tlsMode: 'istio' } } : {}),
    }),
  };
}

/** `name;namespace;canonical name;revision;cluster`, for telemetry. */
function workloadLabel({ name, namespace, canonicalName, canonicalRevision, clusterId }: Workload): string {
  const revision = canonicalRevision === 'latest' ? '' : canonicalRevision;
  return [name, namespace, canonicalName, revision, clusterId].join(';');
}

function lbEndpoint(workload: Workload, ip: string, port: number): MessageInitShape<typeof LbEndpointSchema> {
  const target = formatHostPort({ ip, port });
  const tunnelled = workload.tunnelProtocol === TunnelProtocol.HBONE;
  return {
    hostIdentifier: {
      case: 'endpoint',
      value: { address: tunnelled ? internalAddress(CONNECT_ORIGINATE, target) : socketAddress(ip, port) },
    },
    healthStatus: HealthStatus.HEALTHY,
    ...(workload.capacity ? { loadBalancingWeight: workload.capacity } : {}),
    metadata: metadata({
      istio: { workload: workloadLabel(workload) },
      ...(tunnelled ? { [ORIGINAL_DST]: { local: target }, culvert: { identity: workloadIdentity(workload) } } : {}),
    }),
  };
}
