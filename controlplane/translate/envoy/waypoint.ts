// Everything that one waypoint gets, from the mesh and from what the waypoint serves (facts: control plane 4.2). Pure: the same
// input gives the same messages.
import type { Cluster } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import type { ClusterLoadAssignment } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import type { FilterChain } from '#shared/gen/envoy/config/listener/v3/listener_components_pb.ts';
import type { RouteConfiguration } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import { AppProtocol, type Port, type Service, TunnelProtocol, type Workload } from '#shared/gen/istio/workload/workload_pb.ts';
import { ipFromBytes } from '#shared/address.ts';
import type { ObjectFault } from '#shared/kube/object.ts';
import { policiesFor, routesFor } from './attachment.ts';
import { type ChainMatch, httpChain, tcpChain } from './chains.ts';
import {
  blackHoleCluster,
  connectOriginateCluster,
  encapCluster,
  mainInternalCluster,
  passthroughCluster,
  serviceCluster,
  wantsHttp2,
} from './clusters.ts';
import { loadAssignment, workloadIdentity } from './endpoints.ts';
import { connectOriginate, connectTerminate, mainInternal } from './listeners.ts';
import { type EnvoyResources, type MeshView, serviceKey, type WaypointScope } from './model.ts';
import { DIRECT_HTTP, DIRECT_TCP, ENCAP, inboundVip, outbound, PASSTHROUGH } from './names.ts';
import { rbacRules } from './rbac.ts';
import { type BackendLookup, routeTable } from './routes.ts';

export function waypointResources(mesh: MeshView, scope: WaypointScope): EnvoyResources {
  const build = new WaypointBuild(mesh, scope);
  for (const service of scope.services) for (const port of service.ports) build.addServicePort(service, port);
  for (const workload of scope.workloads) build.addWorkload(workload);
  return build.result();
}

/** Kinds of chain that a port of this protocol needs: both when only the first bytes can tell. */
export function chainKinds(protocol: AppProtocol): readonly ('http' | 'tcp')[] {
  switch (protocol) {
    case AppProtocol.HTTP11:
    case AppProtocol.HTTP2:
    case AppProtocol.GRPC:
      return ['http'];
    case AppProtocol.UNKNOWN:
      return ['http', 'tcp'];
    default:
      return ['tcp'];
  }
}

class WaypointBuild {
  readonly #mesh: MeshView;
  readonly #scope: WaypointScope;
  readonly #served: ReadonlySet<string>;
  readonly #byName: ReadonlyMap<string, Service>;
  readonly #chains: FilterChain[] = [];
  readonly #undeclared = new Set<number>();
  readonly #clusters = new Map<string, Cluster>();
  readonly #endpoints = new Map<string, ClusterLoadAssignment>();
  readonly #routes: RouteConfiguration[] = [];
  readonly #faults = new Map<string, ObjectFault>();

  constructor(mesh: MeshView, scope: WaypointScope) {
    this.#mesh = mesh;
    this.#scope = scope;
    this.#served = new Set(scope.services.map(serviceKey));
    this.#byName = new Map(mesh.services.map((service) => [`${service.namespace}/${service.name}`, service]));
    const { trustDomains } = mesh;
    const fixed = [
      mainInternalCluster(),
      encapCluster(),
      connectOriginateCluster(trustDomains),
      blackHoleCluster(),
      passthroughCluster(),
    ];
    for (const cluster of fixed) this.#clusters.set(cluster.name, cluster);
  }

  addServicePort(service: Service, port: Port): void {
    const addresses = service.addresses.flatMap(({ address }) => ipFromBytes(address) ?? []);
    // Without an address no connection can be told to be meant for it.
    if (addresses.length === 0) return;
    const kinds = chainKinds(port.appProtocol);
    const policies = policiesFor(this.#mesh, this.#scope, service);
    if (kinds.length > 1) this.#undeclared.add(port.servicePort);
    for (const kind of kinds) {
      const name = inboundVip(port.servicePort, kind, service.hostname);
      this.#addCluster(name, service, port);
      const match: ChainMatch = { addresses, port: port.servicePort, detectedHttp: kind === 'http' && kinds.length > 1 };
      const input = { name, match, rbac: rbacRules(policies, kind, this.#report) };
      if (kind === 'tcp') {
        this.#chains.push(tcpChain(input, name));
        continue;
      }
      this.#chains.push(httpChain(input));
      const routes = routesFor(this.#mesh, this.#scope, service, port.servicePort);
      this.#routes.push(routeTable({ name, routes, backends: this.#backend, report: this.#report, defaultCluster: name }));
    }
  }

  /** Traffic to a workload's own address, any port: policy of the waypoint, then on to where it was meant for. */
  addWorkload(workload: Workload): void {
    const addresses = workload.addresses.flatMap((address) => ipFromBytes(address) ?? []);
    if (addresses.length === 0) return;
    this.#undeclared.add(0);
    const tunnelled = workload.tunnelProtocol === TunnelProtocol.HBONE;
    const cluster = tunnelled ? ENCAP : PASSTHROUGH;
    const identity = tunnelled ? workloadIdentity(workload) : undefined;
    const policies = policiesFor(this.#mesh, this.#scope, undefined);
    const chain = (
      kind: 'http' | 'tcp',
      prefix: string,
    ): { name: string; match: ChainMatch; rbac: ReturnType<typeof rbacRules>; identity: typeof identity } => ({
      name: `${prefix}|${addresses[0] ?? ''}`,
      match: { addresses, port: undefined, detectedHttp: kind === 'http' },
      rbac: rbacRules(policies, kind, this.#report),
      identity,
    });
    const http = chain('http', DIRECT_HTTP);
    this.#chains.push(httpChain(http), tcpChain(chain('tcp', DIRECT_TCP), cluster));
    this.#routes.push(
      routeTable({ name: http.name, routes: [], backends: this.#backend, report: this.#report, defaultCluster: cluster }),
    );
  }

  result(): EnvoyResources {
    return {
      clusters: sortBy(this.#clusters.values(), (cluster) => cluster.name),
      endpoints: sortBy(this.#endpoints.values(), (assignment) => assignment.clusterName),
      listeners: [
        connectOriginate(),
        connectTerminate(this.#mesh.trustDomains),
        mainInternal(
          sortBy(this.#chains, (chain) => chain.name),
          [...this.#undeclared].toSorted((a, b) => a - b),
        ),
      ],
      routes: sortBy(this.#routes, (table) => table.name),
      faults: [...this.#faults.values()],
    };
  }

  readonly #report = (fault: ObjectFault): void => {
    this.#faults.set(JSON.stringify(fault), fault);
  };

  /** A backend that this waypoint serves shares the cluster of its chain; any other gets one of its own. */
  readonly #backend: BackendLookup = (namespace, name, portNumber) => {
    const service = this.#byName.get(`${namespace}/${name}`);
    const port = service?.ports.find((candidate) => candidate.servicePort === portNumber);
    if (!service || !port) return undefined;
    const served = this.#served.has(serviceKey(service)) && chainKinds(port.appProtocol).includes('http');
    const cluster = served ? inboundVip(portNumber, 'http', service.hostname) : outbound(portNumber, service.hostname);
    this.#addCluster(cluster, service, port);
    return cluster;
  };

  #addCluster(name: string, service: Service, port: Port): void {
    if (this.#clusters.has(name)) return;
    const members = this.#mesh.workloads.filter((workload) => workload.services[serviceKey(service)] !== undefined);
    this.#clusters.set(name, serviceCluster(name, service, wantsHttp2(port.appProtocol)));
    this.#endpoints.set(name, loadAssignment(name, service, port.servicePort, members));
  }
}

function sortBy<T>(items: Iterable<T>, key: (item: T) => string): T[] {
  return [...items].toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
}
