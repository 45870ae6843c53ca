// What a real Envoy gets as the sidecar of a pod: every service of the mesh outbound, its own ports inbound. As much as traffic and an
// honest comparison of memory need; policy and L7 routes are for ambient mode (facts: control plane 4.1).
import type { Cluster } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import type { ClusterLoadAssignment } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import type { Listener } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import type { Service, Workload } from '#shared/gen/istio/workload/workload_pb.ts';
import { ipFromBytes } from '#shared/address.ts';
import { blackHoleCluster, passthroughCluster } from './clusters.ts';
import { loadAssignment } from './endpoints.ts';
import { type EnvoyResources, type MeshView, serviceKey } from './model.ts';
import { outbound } from './names.ts';
import { inboundCluster, outboundCluster, type SidecarMtls } from './sidecar-clusters.ts';
import { type InboundPort, outboundHttp, outboundTcp, virtualInbound, virtualOutbound } from './sidecar-listeners.ts';
import { inboundRoutes, outboundRoutes } from './sidecar-routes.ts';
import { chainKinds } from './waypoint.ts';

/** The same for all sidecars of a namespace. */
export function sidecarOutbound(mesh: MeshView, namespace: string, mtls: SidecarMtls): EnvoyResources {
  const clusters: Cluster[] = [blackHoleCluster(), passthroughCluster()];
  const endpoints: ClusterLoadAssignment[] = [];
  const listeners: Listener[] = [virtualOutbound()];
  const members = membersOf(mesh.workloads);
  const http = new Map<number, Service[]>();
  for (const service of mesh.services.toSorted((a, b) => (serviceKey(a) < serviceKey(b) ? -1 : 1))) {
    for (const port of service.ports) {
      const name = outbound(port.servicePort, service.hostname);
      clusters.push(outboundCluster(service, port, mtls));
      endpoints.push(loadAssignment(name, service, port.servicePort, members.get(serviceKey(service)) ?? [], 'sidecars'));
      // A port of unknown protocol is TCP here: its clients may be silent ones.
      if (chainKinds(port.appProtocol).join() === 'http')
        http.set(port.servicePort, [...(http.get(port.servicePort) ?? []), service]);
      else listeners.push(...addressesOf(service).map((ip) => outboundTcp(ip, port.servicePort, service.hostname)));
    }
  }
  const ports = [...http].toSorted(([a], [b]) => a - b);
  return {
    clusters,
    endpoints,
    listeners: [...listeners, ...ports.map(([port]) => outboundHttp(port))],
    routes: ports.map(([port, services]) => outboundRoutes(port, services, namespace, mesh.clusterDomain)),
    faults: [],
  };
}

/** For one pod: the target ports of the services that it belongs to. */
export function sidecarInbound(workload: Workload | undefined, mtls: SidecarMtls): EnvoyResources {
  const ports = inboundPorts(workload);
  return {
    clusters: [inboundCluster(0), ...ports.map(({ port }) => inboundCluster(port))],
    endpoints: [],
    listeners: [virtualInbound(ports, mtls)],
    routes: ports.filter(({ http }) => http).map(({ port }) => inboundRoutes(port)),
    faults: [],
  };
}

function inboundPorts(workload: Workload | undefined): InboundPort[] {
  const found = new Map<number, boolean>();
  for (const { ports } of Object.values(workload?.services ?? {}))
    for (const { targetPort, appProtocol } of ports) {
      const http = chainKinds(appProtocol).join() === 'http';
      if (targetPort > 0) found.set(targetPort, http && (found.get(targetPort) ?? true));
    }
  return [...found].map(([port, http]) => ({ port, http })).toSorted((a, b) => a.port - b.port);
}

function membersOf(workloads: readonly Workload[]): Map<string, Workload[]> {
  const members = new Map<string, Workload[]>();
  for (const workload of workloads)
    for (const key of Object.keys(workload.services)) {
      const list = members.get(key);
      if (list) list.push(workload);
      else members.set(key, [workload]);
    }
  return members;
}

function addressesOf(service: Service): string[] {
  return service.addresses.flatMap(({ address }) => ipFromBytes(address) ?? []).filter((ip) => !ip.includes(':'));
}
