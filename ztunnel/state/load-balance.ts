// Which endpoint of a service takes a connection. Pure: the same state and the same random number give the same answer.
import { isIPv4 } from 'node:net';
import type { WorkloadUid } from '#shared/ids.ts';
import type { LoadBalancing, PortMap, Scope, Service, Workload } from './model.ts';
import type { MeshView } from './store.ts';

export interface Endpoint {
  readonly workload: Workload;
  /** Where the workload is dialled. */
  readonly ip: string;
  readonly port: number;
}

export interface PickRequest {
  readonly service: Service;
  /** The service port that the client dialled. */
  readonly port: number;
  /** The address that the client dialled: its family is preferred. */
  readonly dialled: string;
  readonly source: Workload;
  /** Endpoints that a connection attempt just failed on. */
  readonly exclude?: ReadonlySet<WorkloadUid>;
  /** 0 ≤ x < 1 */
  readonly random: number;
}

/** The chosen endpoint, or undefined when none is usable. */
export function pickEndpoint(view: MeshView, request: PickRequest): Endpoint | undefined {
  const usable = candidates(view, request);
  const preferred = byPreference(usable, request.service.loadBalancing, request.source);
  return weighted(preferred, request.random);
}

function candidates(view: MeshView, { service, port, dialled, source, exclude }: PickRequest): Endpoint[] {
  const found: Endpoint[] = [];
  const anyHealth = service.loadBalancing?.health === 'AllowAll';
  for (const [uid, ports] of view.services.endpoints(service.key)) {
    const workload = view.workloads.get(uid);
    if (!workload || exclude?.has(uid) || workload.capacity === 0) continue;
    // Workloads of other networks are reached through their gateway only.
    if (workload.network !== source.network) continue;
    if (workload.status === 'Unhealthy' && !anyHealth) continue;
    const targetPort = resolvePort(service, port, workload, ports);
    const ip = chooseIp(workload, dialled, service);
    if (targetPort !== undefined && ip !== undefined) found.push({ workload, ip, port: targetPort });
  }
  return found;
}

/** The endpoint's own mapping, else the service's number (0 names a port that the endpoint did not map), else a tunnel that takes any port. */
export function resolvePort(service: Service, port: number, workload: Workload, endpointPorts: PortMap): number | undefined {
  const own = endpointPorts.get(port) || service.ports.get(port);
  if (own) return own;
  return !service.ports.has(port) && workload.applicationTunnel?.port !== undefined ? port : undefined;
}

/** The dialled address if the workload owns it, else one of the dialled family that the service offers, else the first. */
export function chooseIp(workload: Workload, dialled: string, service?: Service): string | undefined {
  if (workload.ips.includes(dialled)) return dialled;
  const offered = workload.ips.filter((ip) => {
    const families = service?.ipFamilies;
    return families === undefined || families === 'Dual' || (families === 'IPv4') === isIPv4(ip);
  });
  return offered.find((ip) => isIPv4(ip) === isIPv4(dialled)) ?? offered[0];
}

function byPreference(endpoints: Endpoint[], balancing: LoadBalancing | undefined, source: Workload): Endpoint[] {
  const preferences = balancing?.preferences ?? [];
  switch (balancing?.mode) {
    case 'Strict':
      return endpoints.filter(({ workload }) => preferences.every((scope) => inScope(scope, source, workload)));
    case 'Failover': {
      const ranked = endpoints.map((endpoint) => ({ endpoint, rank: closeness(preferences, source, endpoint.workload) }));
      const best = Math.max(...ranked.map(({ rank }) => rank));
      return ranked.filter(({ rank }) => rank === best).map(({ endpoint }) => endpoint);
    }
    case 'Standard':
    case 'Passthrough':
    case undefined:
      return endpoints;
  }
}

/** How many leading scopes match. A leading NETWORK stands apart: matching it outranks everything, missing it is skipped over. */
function closeness(preferences: readonly Scope[], source: Workload, workload: Workload): number {
  const [first, ...others] = preferences;
  if (first !== 'NETWORK') return prefixLength(preferences, source, workload);
  const rest = prefixLength(others, source, workload);
  return inScope(first, source, workload) ? preferences.length + rest : rest;
}

function prefixLength(scopes: readonly Scope[], source: Workload, workload: Workload): number {
  const miss = scopes.findIndex((scope) => !inScope(scope, source, workload));
  return miss < 0 ? scopes.length : miss;
}

function inScope(scope: Scope, a: Workload, b: Workload): boolean {
  switch (scope) {
    case 'REGION':
      return a.locality.region === b.locality.region;
    case 'ZONE':
      return a.locality.zone === b.locality.zone;
    case 'SUBZONE':
      return a.locality.subzone === b.locality.subzone;
    case 'NODE':
      return a.node === b.node;
    case 'CLUSTER':
      return a.clusterId === b.clusterId;
    case 'NETWORK':
      return a.network === b.network;
  }
}

function weighted(endpoints: readonly Endpoint[], random: number): Endpoint | undefined {
  const total = endpoints.reduce((sum, { workload }) => sum + workload.capacity, 0);
  let left = random * total;
  for (const endpoint of endpoints) {
    left -= endpoint.workload.capacity;
    if (left < 0) return endpoint;
  }
  return endpoints.at(-1);
}
