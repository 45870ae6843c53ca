// From the waypoint or network gateway that a service or workload names to an endpoint of it, and back: does a workload stand behind
// that name?
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { NamespacedHostname, WorkloadUid } from '#shared/ids.ts';
import type { Balancer } from './balancer.ts';
import type { Endpoint } from './load-balance.ts';
import { chooseIp, pickEndpoint } from './load-balance.ts';
import type { GatewayAddress, Service, Workload } from './model.ts';
import type { MeshView } from './store.ts';

export interface ResolvedGateway {
  readonly endpoint: Endpoint;
  /** The service that it was found through. */
  readonly service?: Service;
}

interface ResolveRequest {
  /** What is named, for errors. */
  readonly role: 'waypoint' | 'network gateway';
  readonly source: Workload;
  readonly to: HostPort;
  readonly exclude?: ReadonlySet<WorkloadUid>;
  /** 0 ≤ x < 1, new at each call. */
  readonly random: () => number;
  readonly balancer?: Balancer;
}

/** Throws `unknown_destination` when nothing has the name, `no_healthy_upstream` when nothing behind it is usable. */
export function resolveGateway(view: MeshView, gateway: GatewayAddress, request: ResolveRequest): ResolvedGateway {
  const { service, workload } = lookUp(view, gateway, request.source.namespace);
  if (service) {
    const endpoint = pickEndpoint(view, {
      ...request,
      service,
      port: gateway.port,
      dialled: familyHint(gateway, request.to),
    });
    if (!endpoint) throw nobodyOf(gateway, request);
    return { endpoint, service };
  }
  const ip = workload && chooseIp(workload.ips, familyHint(gateway, request.to));
  if (!workload || (ip === undefined && workload.hostname === ''))
    throw new MeshError('unknown_destination', `unknown ${request.role}: ${gatewayName(gateway)}`);
  if (request.exclude?.has(workload.uid)) throw nobodyOf(gateway, request);
  return { endpoint: { workload, ip, port: gateway.port } };
}

function nobodyOf(gateway: GatewayAddress, { role }: ResolveRequest): MeshError {
  return new MeshError('no_healthy_upstream', `no healthy upstream: ${role} ${gatewayName(gateway)}`);
}

/** Whether the workload is one of those behind the name. */
export function gatewayHas(view: MeshView, gateway: GatewayAddress, candidate: Workload): boolean {
  const { service, workload } = lookUp(view, gateway, candidate.namespace);
  if (service) return view.services.endpoints(service.key).has(candidate.uid);
  return workload?.uid === candidate.uid;
}

/** `NETWORK/IP` or `NAMESPACE/HOSTNAME` */
export function gatewayName(gateway: GatewayAddress): string {
  return gateway.kind === 'address' ? `${gateway.network}/${gateway.ip}` : gateway.host;
}

function lookUp(view: MeshView, gateway: GatewayAddress, namespace: string): { service?: Service; workload?: Workload } {
  if (gateway.kind === 'address') {
    const service = view.services.byVip(gateway.network, gateway.ip, namespace);
    if (service) return { service };
    const workload = view.workloads.byAddress(gateway.network, gateway.ip);
    return workload ? { workload } : {};
  }
  const service = view.services.get(gateway.host);
  if (service) return { service };
  const workload = byHostname(view, gateway.host);
  return workload ? { workload } : {};
}

function byHostname(view: MeshView, host: NamespacedHostname): Workload | undefined {
  const slash = host.indexOf('/');
  return view.workloads.byHostname(host.slice(0, slash), host.slice(slash + 1));
}

/** A waypoint named by address is dialled in that family; one named by host name in the family that the client used. */
function familyHint(gateway: GatewayAddress, to: HostPort): string {
  return gateway.kind === 'address' ? gateway.ip : to.ip;
}
