// The endpoints of one service port as one place sees them: who is usable, in groups of equal rank, the best first. Made once and
// kept (balancer.ts), so that a connection costs a draw and not a walk over the service.
import type { WorkloadUid } from '#shared/ids.ts';
import { rankOf } from './locality.ts';
import type { PortMap, Service, Workload } from './model.ts';
import type { MeshView } from './store.ts';
import type { Candidate, EndpointLoad, Group } from './two-choices.ts';
import { groupOf } from './two-choices.ts';

export interface PlanRequest {
  readonly service: Service;
  /** The service port that the client dialled. */
  readonly port: number;
  readonly source: Workload;
}

interface Member extends Candidate {
  readonly rank: number;
}

export class EndpointPlan {
  readonly service: Service;
  readonly port: number;
  readonly source: Workload;
  readonly #view: MeshView;
  readonly #loadOf: (uid: WorkloadUid) => EndpointLoad;
  readonly #members = new Map<WorkloadUid, Member>();
  readonly #stale = new Set<WorkloadUid>();
  #groups: readonly Group[] | undefined;

  constructor(view: MeshView, { service, port, source }: PlanRequest, loadOf: (uid: WorkloadUid) => EndpointLoad) {
    this.service = service;
    this.port = port;
    this.source = source;
    this.#view = view;
    this.#loadOf = loadOf;
    for (const uid of view.services.endpoints(service.key).keys()) this.#stale.add(uid);
  }

  /** Endpoints that it knows, usable or not. */
  get size(): number {
    return this.#members.size + this.#stale.size;
  }

  /** By rank, the best first. */
  get groups(): readonly Group[] {
    if (this.#stale.size > 0) this.#review();
    return (this.#groups ??= grouped(this.#members.values()));
  }

  has(uid: WorkloadUid): boolean {
    return this.#members.has(uid);
  }

  /** Usable ones, as far as it looked. */
  members(): Iterable<WorkloadUid> {
    return this.#members.keys();
  }

  /** The workload came, changed or went: it is looked at before the next pick. */
  changed(uid: WorkloadUid): void {
    this.#stale.add(uid);
  }

  #review(): void {
    const endpoints = this.#view.services.endpoints(this.service.key);
    for (const uid of this.#stale) {
      const member = this.#assess(uid, endpoints.get(uid));
      if (member) this.#members.set(uid, member);
      else this.#members.delete(uid);
    }
    this.#stale.clear();
    this.#groups = undefined;
  }

  #assess(uid: WorkloadUid, ports: PortMap | undefined): Member | undefined {
    const workload = ports && this.#view.workloads.get(uid);
    if (!workload) return undefined;
    const use = assessEndpoint(this, workload, ports);
    if (typeof use === 'string') return undefined;
    return { load: this.#loadOf(uid), ...use, capacity: workload.capacity };
  }
}

/** How an endpoint of the service can be used; a string says why it cannot. */
export function assessEndpoint(
  { service, port, source }: PlanRequest,
  workload: Workload,
  ports: PortMap,
): { readonly port: number; readonly rank: number } | string {
  if (workload.capacity === 0) return 'it has no capacity';
  if (workload.status === 'Unhealthy' && service.loadBalancing?.health !== 'AllowAll') return 'it is not healthy';
  // Workloads of other networks are reached through their gateway only, whatever their own addresses.
  if (workload.network !== source.network) {
    if (!workload.networkGateway) return 'it is in another network and names no gateway to it';
  } else if (workload.ips.length > 0 || workload.hostname === '') {
    if (!workload.ips.some((ip) => isOffered(service, ip))) return 'it has no address of a family that the service offers';
  }
  const target = resolvePort(service, port, workload, ports);
  if (target === undefined) return 'the service port leads to none of its ports';
  const rank = rankOf(service.loadBalancing, source, workload);
  return rank === undefined ? 'it is outside of the locality that the service is limited to' : { port: target, rank };
}

function grouped(members: Iterable<Member>): Group[] {
  const byRank = new Map<number, Member[]>();
  for (const member of members) {
    const ofRank = byRank.get(member.rank);
    if (ofRank) ofRank.push(member);
    else byRank.set(member.rank, [member]);
  }
  return [...byRank].sort(([a], [b]) => b - a).map(([, ofRank]) => groupOf(ofRank));
}

/** The endpoint's own mapping, else the service's number (0 names a port that the endpoint did not map), else a tunnel that takes any port. */
export function resolvePort(service: Service, port: number, workload: Workload, endpointPorts: PortMap): number | undefined {
  const own = endpointPorts.get(port) || service.ports.get(port);
  if (own) return own;
  return !service.ports.has(port) && workload.applicationTunnel?.port !== undefined ? port : undefined;
}

/** Whether the service is to be reached at addresses of this one's family. */
export function isOffered(service: Service | undefined, ip: string): boolean {
  const families = service?.ipFamilies;
  return families === undefined || families === 'Dual' || (families === 'IPv6') === ip.includes(':');
}
