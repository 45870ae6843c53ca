// What the mesh itself answers to a question for addresses: a pure function of the state, the client and the question.
import { isIPv4 } from 'node:net';
import type { NamespacedHostname, WorkloadUid } from '#shared/ids.ts';
import type { Service, Workload } from '../state/model.ts';
import { ipOf, networkAddress } from '../state/model.ts';
import type { Endpoints } from '../state/workloads.ts';
import type { Candidate } from './names.ts';
import { candidatesOf, wildcardsOf } from './names.ts';

/** What the mesh's state is asked for. */
export interface DnsView {
  readonly services: {
    /** Every service of the host name, in the order of arrival. */
    named(hostname: string): readonly Service[];
    endpoints(key: NamespacedHostname): Pick<Endpoints, 'keys'>;
  };
  readonly workloads: { get(uid: WorkloadUid): Workload | undefined };
}

export interface AnswerOptions {
  readonly clusterDomain: string;
  /** False: nothing has an IPv6 address. */
  readonly ipv6: boolean;
  /** Whose service is meant where several namespaces have one of the name, after the client's and the canonical one. */
  readonly preferredNamespace: string | undefined;
  /** The client's search domains. */
  readonly search: readonly string[];
}

export interface MeshQuestion {
  /** Lower-case, without the closing dot. */
  readonly name: string;
  readonly family: 'IPv4' | 'IPv6';
}

export interface MeshAnswer {
  /** The mesh's name of what was found. */
  readonly host: string;
  /** The name that the asked one stands for, when a search domain was taken off. */
  readonly alias?: string;
  /** Empty: the host is known, and has no address of the family. */
  readonly addresses: readonly string[];
}

interface Match {
  readonly service: Service;
  readonly candidate: Candidate;
  /** Found by a wildcard, which says nothing of the name itself. */
  readonly wildcard: boolean;
  /** One endpoint of the service instead of all. */
  readonly pod?: Workload;
}

/** Undefined: the mesh does not know the name, so others are to be asked. */
export function answerFromMesh(
  question: MeshQuestion,
  view: DnsView,
  client: Workload,
  options: AnswerOptions,
): MeshAnswer | undefined {
  const match = find(question.name, view, client, options);
  if (!match) return undefined;
  const { service, candidate, wildcard, pod } = match;
  const addresses = offers(service, question.family, options) ? addressesOf(match, view, client, question.family) : [];
  const alias = wildcard || addresses.length === 0 ? undefined : candidate.stripped;
  return {
    host: pod ? `${pod.name}.${service.hostname}` : service.hostname,
    ...(alias === undefined ? {} : { alias }),
    addresses,
  };
}

function find(asked: string, view: DnsView, client: Workload, options: AnswerOptions): Match | undefined {
  const { clusterDomain, search } = options;
  for (const candidate of candidatesOf(asked, { clusterDomain, namespace: client.namespace, search })) {
    const exact = bestService(candidate.name, view, client, options);
    if (exact) return { service: exact, candidate, wildcard: false };
    const pod = podOf(candidate, view, client, options);
    if (pod) return pod;
    for (const pattern of wildcardsOf(candidate.name)) {
      const service = bestService(pattern, view, client, options);
      if (service) return { service, candidate, wildcard: true };
    }
  }
  return undefined;
}

/** `POD.SERVICE.NAMESPACE.svc.DOMAIN`, by the pod's name or by its address with dashes, for endpoints of a headless service. */
function podOf(candidate: Candidate, view: DnsView, client: Workload, options: AnswerOptions): Match | undefined {
  const dot = candidate.name.indexOf('.');
  if (dot < 0 || !candidate.name.endsWith(`.svc.${options.clusterDomain}`)) return undefined;
  const service = bestService(candidate.name.slice(dot + 1), view, client, options);
  if (!service || service.vips.length > 0) return undefined;
  const label = candidate.name.slice(0, dot);
  for (const pod of reachable(service, view, client))
    if (pod.name === label || pod.ips.some((ip) => ip.replaceAll(/[.:]/gu, '-') === label))
      return { service, candidate, wildcard: false, pod };
  return undefined;
}

/** Services without an address of their own are left to others, but for Kubernetes' headless ones. */
function bestService(host: string, view: DnsView, client: Workload, options: AnswerOptions): Service | undefined {
  const all = view.services.named(host);
  if (all.length === 0) return undefined;
  const suffix = `.svc.${options.clusterDomain}`;
  const eligible = all.filter(
    ({ vips, hostname, visibility, namespace }) =>
      (vips.length > 0 || hostname.endsWith(suffix)) && (visibility === 'Public' || namespace === client.namespace),
  );
  return (
    eligible.find(({ namespace }) => namespace === client.namespace) ??
    eligible.find(({ canonical }) => canonical) ??
    eligible.find(({ namespace }) => namespace === options.preferredNamespace) ??
    eligible[0]
  );
}

function offers({ ipFamilies = 'Dual' }: Service, family: MeshQuestion['family'], { ipv6 }: AnswerOptions): boolean {
  return (ipv6 || family === 'IPv4') && (ipFamilies === 'Dual' || ipFamilies === family);
}

function addressesOf({ service, pod }: Match, view: DnsView, client: Workload, family: MeshQuestion['family']): string[] {
  const ofFamily = (ip: string): boolean => isIPv4(ip) === (family === 'IPv4');
  if (pod) return pod.ips.filter(ofFamily);
  if (service.vips.length > 0)
    return service.vips
      .filter((vip) => vip === networkAddress(client.network, ipOf(vip)))
      .map(ipOf)
      .filter(ofFamily);
  return reachable(service, view, client).flatMap(({ ips }) => ips.find(ofFamily) ?? []);
}

/** Endpoints of a headless service that a client can dial by their own address. */
function reachable(service: Service, view: DnsView, client: Workload): Workload[] {
  const anyHealth = service.loadBalancing?.health === 'AllowAll';
  const found: Workload[] = [];
  for (const uid of view.services.endpoints(service.key).keys()) {
    const workload = view.workloads.get(uid);
    if (workload?.network === client.network && (anyHealth || workload.status === 'Healthy')) found.push(workload);
  }
  return found;
}
