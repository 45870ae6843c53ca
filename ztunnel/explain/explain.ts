// What would become of a connection, and why: the decisions of the data path on the state at hand, made by the same functions, without
// a connection. It changes nothing.
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { TrustDomains } from '#shared/identity/trust-domains.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { ZtunnelConfig } from '../config.ts';
import { evaluate } from '../policy/evaluate.ts';
import { policyContext } from '../policy/match.ts';
import { inboundTarget } from '../proxy/inbound-target.ts';
import { mayJoin } from '../proxy/same-node.ts';
import type { NamedRoute, Route, RouteRequest } from '../proxy/upstream.ts';
import { ROUTE_RULES } from '../proxy/upstream.ts';
import { assessEndpoint } from '../state/endpoint-plan.ts';
import { gatewayName } from '../state/gateway.ts';
import type { Service, Workload } from '../state/model.ts';
import type { Demand } from '../state/on-demand.ts';
import type { MeshStore } from '../state/store.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { ExplainedRevocation, OwnRevocations } from './revocations.ts';
import { revocationOf } from './revocations.ts';

export interface ExplainView {
  readonly config: ZtunnelConfig;
  readonly store: MeshStore;
  /** Undefined: the state is all there is. */
  readonly demand?: Demand | undefined;
  /** Undefined: there are no revocation lists. */
  readonly revocations?: Pick<OwnRevocations, 'look'> | undefined;
  /** Whether this ztunnel serves the pod now. */
  serves(pod: PodIdentity): boolean;
}

export interface ExplainedEndpoint {
  readonly workload: string;
  readonly address: string;
  /** Its group: 0 is asked first, others when those before have nobody. Undefined: it is not used. */
  readonly group?: number;
  /** Why it is not used. */
  readonly reason?: string;
}

export interface Explanation {
  readonly source: { readonly workload: string; readonly identity: SpiffeId; readonly node: string };
  readonly destination: string;
  readonly service?: string;
  /** The rule of docs/life-of-a-connection.md that decides, or `revocation list`. */
  readonly rule: string;
  readonly why: readonly string[];
  /** Where it goes; of several endpoints one of those that may be drawn. */
  readonly nextHop?: ExplainedHop;
  readonly endpoints: readonly ExplainedEndpoint[];
  readonly policies?: ExplainedVerdict;
  /** The end whose certificate is in a revocation list. */
  readonly revoked?: ExplainedRevocation;
  /** Why there is no way. */
  readonly error?: { readonly code: string; readonly message: string; readonly responseFlags: string };
}

interface ExplainedHop {
  readonly kind: Route['kind'] | 'named' | 'same-node';
  /** IP:PORT, or the host name that is looked up for each connection. */
  readonly address: string;
  readonly workload?: string;
  readonly authority?: string;
  /** One of these must be proved by whoever answers. */
  readonly identities: readonly SpiffeId[];
  /** And one of these by the network gateway on the way. */
  readonly gatewayIdentities?: readonly SpiffeId[];
}

interface ExplainedVerdict {
  readonly allowed: boolean;
  readonly reason: string;
  readonly dryRun: readonly string[];
}

/** Never throws a MeshError of a decision: that is part of the explanation. */
export async function explain(view: ExplainView, source: Workload, to: HostPort): Promise<Explanation> {
  const sourceIp = source.ips.find((ip) => ip.includes(':') === to.ip.includes(':')) ?? source.ips[0] ?? '';
  const request: RouteRequest = { source, sourceIp, to, network: view.config.network, random: () => 0 };
  const decision = decide(view.store, request);
  const service = serviceOf(view.store, request);
  const about = {
    source: { workload: nameOf(source), identity: source.identity, node: source.node },
    destination: formatHostPort(to),
    ...(service ? { service: `${service.namespace}/${service.hostname}` } : {}),
    rule: decision.rule,
    endpoints: decision.rule === 'service' && service ? endpointsOf(view.store, { service, port: to.port, source }) : [],
  };
  if ('error' in decision) {
    const { code, message, flag } = decision.error;
    const why = [...enrolment(source), ...portsOf(service, to.port)];
    return { ...about, why, error: { code, message, responseFlags: flag } };
  }
  const { route } = decision;
  const joined = route.kind === 'hbone' && mayJoin(view, route) && view.serves(route.workload);
  const policies = verdictOf(view, { route, sourceIp, source });
  const { notes, revoked, message } = await revocationOf(view, source, route);
  // Policies of what is joined here are asked first; a tunnel comes before them.
  const decides = message !== undefined && !(joined && policies?.allowed === false);
  return {
    ...about,
    ...(decides ? { rule: 'revocation list' } : {}),
    why: [
      ...enrolment(source),
      ...reasons(view, decision, service),
      ...(joined ? ['both pods are served by this ztunnel, which joins them without a tunnel'] : []),
      ...notes,
      ...(message !== undefined && !decides ? [message] : []),
    ],
    nextHop: hopOf(route, joined),
    ...(policies ? { policies } : {}),
    ...(revoked ? { revoked } : {}),
    ...(decides ? { error: { code: 'cert_revoked', message, responseFlags: 'CERT_REVOKED' } } : {}),
  };
}

type Decision =
  | { readonly rule: string; readonly route: Route | NamedRoute }
  | { readonly rule: string; readonly error: MeshError };

function decide(store: MeshStore, request: RouteRequest): Decision {
  for (const { name: rule, decide: ask } of ROUTE_RULES) {
    try {
      const route = ask(store, request);
      if (route) return { rule, route };
    } catch (thrown) {
      if (!(thrown instanceof MeshError)) throw thrown;
      return { rule, error: thrown };
    }
  }
  return { rule: 'as it was', route: { kind: 'passthrough', to: request.to } };
}

function serviceOf(store: MeshStore, { source, to, network }: RouteRequest): Service | undefined {
  return store.services.byVip(network, to.ip, source.namespace) ?? store.services.byVip(source.network, to.ip, source.namespace);
}

function reasons(
  view: ExplainView,
  { rule, route }: { rule: string; route: Route | NamedRoute },
  service: Service | undefined,
): string[] {
  if (rule === 'as it was') return ['no service and no workload of the mesh has the address: the connection goes on unchanged'];
  if (route.kind === 'passthrough') return ['the service asks for PASSTHROUGH: the address that was dialled is used'];
  const why: string[] = [];
  const beyond =
    route.kind === 'gateway' ? [`it is in the network ${route.workload.network}, reached through a network gateway`] : [];
  if ('via' in route && route.via === 'waypoint') {
    const weights = service?.weightedWaypoints.map(({ weight }) => weight) ?? [];
    why.push(rule === 'workload' ? 'the workload has a waypoint' : 'the service has a waypoint, which chooses the endpoint');
    if (weights.length > 0) why.push(`drawn among waypoints of the weights ${weights.join(', ')}`);
    return [...why, ...beyond];
  }
  why.push(rule === 'service' ? 'the address is one of the service' : 'the address is one of the workload');
  const { waypoint } = rule === 'service' ? (service ?? {}) : route.workload;
  if (waypoint) why.push('the source is its waypoint itself, so that it is not asked again');
  if (route.kind === 'gateway') return [...why, ...beyond];
  if (route.kind === 'named')
    return [...why, 'the workload is known by its host name alone, which is looked up for each connection'];
  why.push(
    route.kind === 'hbone'
      ? 'the workload takes tunnels (HBONE)'
      : 'the workload is not enrolled and takes no tunnels: the connection is not encrypted',
  );
  if (view.config.sameNode === 'hbone' && view.store.workloads.isLocal(route.workload))
    why.push('SAME_NODE=hbone: also within the node');
  return why;
}

/** What holds for a pod that is not captured is what would hold if it were. */
function enrolment({ protocol }: Workload): string[] {
  return protocol === 'HBONE'
    ? []
    : ['the source is not enrolled, so its connections pass no ztunnel; this would hold if it were'];
}

function portsOf(service: Service | undefined, port: number): string[] {
  if (!service || service.ports.has(port)) return [];
  return [`the service has no port ${port}, but ${[...service.ports.keys()].join(', ') || 'none at all'}`];
}

function endpointsOf(store: MeshStore, plan: { service: Service; port: number; source: Workload }): ExplainedEndpoint[] {
  const found: { workload: string; address: string; rank?: number; reason?: string }[] = [];
  for (const [uid, ports] of store.services.endpoints(plan.service.key)) {
    const workload = store.workloads.get(uid);
    if (!workload) continue;
    const use = assessEndpoint(plan, workload, ports);
    const ip = workload.ips[0] ?? workload.hostname;
    if (typeof use === 'string') found.push({ workload: nameOf(workload), address: ip, reason: use });
    else
      found.push({
        workload: nameOf(workload),
        address: addressOf(plan.source, workload, { ip, port: use.port }),
        rank: use.rank,
      });
  }
  const ranks = [...new Set(found.flatMap(({ rank }) => rank ?? []))].sort((a, b) => b - a);
  return found
    .map(({ rank, ...endpoint }) => ({ ...endpoint, ...(rank === undefined ? {} : { group: ranks.indexOf(rank) }) }))
    .sort((a, b) => (a.group ?? Infinity) - (b.group ?? Infinity) || (a.workload < b.workload ? -1 : 1));
}

function addressOf(source: Workload, { network, networkGateway }: Workload, own: HostPort): string {
  if (network === source.network || !networkGateway) return formatHostPort(own);
  return `network gateway ${gatewayName(networkGateway)}`;
}

function hopOf(route: Route | NamedRoute, joined: boolean): ExplainedHop {
  if (route.kind === 'passthrough') return { kind: 'passthrough', address: formatHostPort(route.to), identities: [] };
  const workload = nameOf(route.workload);
  if (route.kind === 'named') return { kind: 'named', address: route.hostname, workload, identities: [] };
  if (route.kind === 'plain') return { kind: 'plain', address: formatHostPort(route.to), workload, identities: [] };
  if (route.kind === 'gateway') {
    const identities = { identities: [...new Set(route.accepted)], gatewayIdentities: [...new Set(route.gateway)] };
    return { kind: 'gateway', address: formatHostPort(route.to), workload, authority: route.authority, ...identities };
  }
  const authority = formatHostPort(route.authority);
  return joined
    ? { kind: 'same-node', address: authority, workload, identities: [] }
    : { kind: 'hbone', address: formatHostPort(route.to), workload, authority, identities: [...new Set(route.accepted)] };
}

/** What the destination's own ztunnel will say; a waypoint, another network and what is outside of the mesh decide for themselves. */
function verdictOf(
  { store, config }: ExplainView,
  { route, sourceIp, source }: { route: Route | NamedRoute; sourceIp: string; source: Workload },
): ExplainedVerdict | undefined {
  if (route.kind !== 'plain' && (route.kind !== 'hbone' || route.via === 'waypoint')) return undefined;
  const tunnelled = route.kind === 'hbone';
  let destination = route.to;
  try {
    if (tunnelled) destination = targetOf(store, config, route);
  } catch (thrown) {
    return { allowed: false, reason: MeshError.from(thrown).message, dryRun: [] };
  }
  const identity = tunnelled ? source.identity : undefined;
  const spellings = identity && new TrustDomains(config.trustDomain, config.trustDomainAliases).spellings(identity);
  const subject = policyContext({ source: { ip: sourceIp, port: 0 }, destination, identity, spellings });
  const { verdict, dryRun } = evaluate(store.policies.forWorkload(route.workload), subject);
  const by = verdict.by ? `${verdict.by.namespace}/${verdict.by.name}` : undefined;
  const allowed = by === undefined ? 'no ALLOW policy exists for the workload, and no DENY policy matches' : `allowed by ${by}`;
  return { allowed: verdict.allowed, reason: verdict.allowed ? allowed : verdict.reason, dryRun };
}

/** Where the tunnel ends: an application tunnel may have a port of its own, and that is what policies are asked about. */
function targetOf(store: MeshStore, config: ZtunnelConfig, { workload, authority }: Extract<Route, { kind: 'hbone' }>): HostPort {
  return inboundTarget(store, workload, authority, { kind: 'ip', address: authority }, config).to;
}

function nameOf({ namespace, name }: Workload): string {
  return `${namespace}/${name}`;
}
