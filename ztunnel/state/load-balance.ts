// Which endpoint of a service takes a connection: of the nearest usable ones, the less busy of two.
import type { WorkloadUid } from '#shared/ids.ts';
import type { Balancer } from './balancer.ts';
import { EndpointPlan, isOffered } from './endpoint-plan.ts';
import type { Service, Workload } from './model.ts';
import type { MeshView } from './store.ts';
import type { Candidate, EndpointLoad, Group } from './two-choices.ts';
import { chooseOf } from './two-choices.ts';

export interface Endpoint {
  readonly workload: Workload;
  /** Where the workload is dialled; undefined when it has a host name instead, or is in another network and needs no address here. */
  readonly ip: string | undefined;
  readonly port: number;
  /** Where its connections are counted, if they are. */
  readonly load?: EndpointLoad;
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
  /** 0 ≤ x < 1, new at each call. */
  readonly random: () => number;
  /** What was kept from other connections; undefined: this is the first. */
  readonly balancer?: Balancer;
}

/** The chosen endpoint, or undefined when none is usable. */
export function pickEndpoint(view: MeshView, request: PickRequest): Endpoint | undefined {
  const { service, dialled, balancer } = request;
  const { groups } = balancer?.plan(request) ?? new EndpointPlan(view, request, (uid) => ({ uid, inFlight: 0 }));
  const chosen = choose(groups, request);
  const workload = chosen && view.workloads.get(chosen.load.uid);
  return workload && { workload, ip: chooseIp(workload.ips, dialled, service), port: chosen.port, load: chosen.load };
}

/** A group counts when those before it have nobody. When all of them failed of late, one that did is still better than none. */
function choose(groups: readonly Group[], { exclude, random, balancer }: PickRequest): Candidate | undefined {
  const tried = exclude && exclude.size > 0 ? ({ load }: Candidate) => exclude.has(load.uid) : undefined;
  const { ejections } = balancer ?? {};
  if (!ejections?.any) return firstOf(groups, random, tried);
  const leftOut = ({ load: { uid }, port }: Candidate): boolean => ejections.has(uid, port) || (exclude?.has(uid) ?? false);
  return firstOf(groups, random, leftOut) ?? firstOf(groups, random, tried);
}

function firstOf(
  groups: readonly Group[],
  random: () => number,
  unusable?: (candidate: Candidate) => boolean,
): Candidate | undefined {
  for (const group of groups) {
    const found = chooseOf(group, random, unusable);
    if (found) return found;
  }
  return undefined;
}

/** The dialled address if it is one of them, else one of the dialled family that the service offers, else the first that it offers. */
export function chooseIp(ips: readonly string[], dialled: string, service?: Service): string | undefined {
  const v6 = dialled.includes(':');
  let first: string | undefined;
  let sameFamily: string | undefined;
  for (const ip of ips) {
    if (ip === dialled) return ip;
    if (!isOffered(service, ip)) continue;
    first ??= ip;
    if (ip.includes(':') === v6) sameFamily ??= ip;
  }
  return sameFamily ?? first;
}
