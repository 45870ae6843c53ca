// Where an outbound connection goes: waypoint, service endpoint, workload, or on as it was. A pure decision on the state at hand, so
// that each row of the table in docs/life-of-a-connection.md is a line of a test.
import type { HostPort } from '#shared/address.ts';
import { formatHostPort, knownAddress } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { SpiffeId, WorkloadUid } from '#shared/ids.ts';
import { PORT } from '#shared/ports.ts';
import type { Balancer } from '../state/balancer.ts';
import type { Endpoint } from '../state/load-balance.ts';
import { chooseIp, pickEndpoint } from '../state/load-balance.ts';
import type { GatewayAddress, Service, Workload } from '../state/model.ts';
import type { MeshView } from '../state/store.ts';
import type { EndpointLoad } from '../state/two-choices.ts';
import { gatewayHas, resolveGateway } from '../state/gateway.ts';

export type Route =
  /** Nothing is known of the destination, or its service wants to be left alone: on to where the client meant to go. */
  | { readonly kind: 'passthrough'; readonly to: HostPort; readonly service?: Service }
  /** A known workload without a tunnel: in the clear. */
  | (Chosen & { readonly kind: 'plain'; readonly to: HostPort })
  | (Chosen & {
      readonly kind: 'hbone';
      readonly to: HostPort;
      /** What the tunnel asks for. */
      readonly authority: HostPort;
      /** The peer must present one of these. */
      readonly accepted: readonly SpiffeId[];
      readonly via: 'workload' | 'waypoint';
    })
  /** In another network: its gateway takes a tunnel, and through it one goes on to who answers (double HBONE). */
  | (Chosen & {
      readonly kind: 'gateway';
      /** The network gateway. */
      readonly to: HostPort;
      /** HOST:PORT of the service, asked of both: addresses say nothing in the other network. */
      readonly authority: string;
      /** The gateway must present one of these. */
      readonly gateway: readonly SpiffeId[];
      /** Who answers the tunnel inside must present one of these. */
      readonly accepted: readonly SpiffeId[];
      readonly via: 'workload' | 'waypoint';
    });

/** Who answers: the destination, or its waypoint. */
interface Chosen {
  readonly workload: Workload;
  readonly service?: Service;
  /** Of the endpoint that was chosen among several. */
  readonly load?: EndpointLoad;
}

/** A route to somebody whose address must be looked up first. */
export interface NamedRoute extends Chosen {
  readonly kind: 'named';
  readonly hostname: string;
  /** The route, given the addresses of the name. Throws `no_healthy_upstream` when none of them may be used. */
  readonly at: (addresses: readonly string[]) => Route;
}

export interface RouteRequest {
  readonly source: Workload;
  readonly sourceIp: string;
  /** Where the client meant to go. */
  readonly to: HostPort;
  /** The network that addresses are looked up in (the node's own). */
  readonly network: string;
  /** Endpoints that a connection attempt just failed on. */
  readonly exclude?: ReadonlySet<WorkloadUid>;
  /** 0 ≤ x < 1, new at each call: which waypoint and which endpoint are two questions. */
  readonly random: () => number;
  /** What is known of endpoints from other connections. */
  readonly balancer?: Balancer;
}

/** One row of the table in docs/life-of-a-connection.md: undefined when it is not for this connection. */
export interface RouteRule {
  readonly name: 'waypoint of the service' | 'service' | 'workload';
  readonly decide: (view: MeshView, request: RouteRequest) => Route | NamedRoute | undefined;
}

/** In the order in which they are asked; where none decides, the connection goes on as it was. */
export const ROUTE_RULES: readonly RouteRule[] = [
  { name: 'waypoint of the service', decide: viaServiceWaypoint },
  { name: 'service', decide: viaService },
  { name: 'workload', decide: viaWorkload },
];

/** Throws `no_healthy_upstream` or `unknown_destination`. */
export function decideRoute(view: MeshView, request: RouteRequest): Route | NamedRoute {
  for (const rule of ROUTE_RULES) {
    const route = rule.decide(view, request);
    if (route) return route;
  }
  return { kind: 'passthrough', to: request.to };
}

/** A service's waypoint beats everything, even PASSTHROUGH; it gets the address that the client dialled. */
function viaServiceWaypoint(view: MeshView, request: RouteRequest): Route | NamedRoute | undefined {
  const { source, to, network, random } = request;
  if (view.workloads.byAddress(network, to.ip)) return undefined;
  const service = view.services.byVip(network, to.ip, source.namespace);
  const gateway = service && chooseWaypoint(service, random());
  if (!service || !gateway || waypointsOf(service).some((each) => comesFrom(view, each, request))) return undefined;
  return toWaypoint(view, gateway, request, service);
}

function viaService(view: MeshView, request: RouteRequest): Route | NamedRoute | undefined {
  const { source, to } = request;
  const service = view.services.byVip(source.network, to.ip, source.namespace);
  if (!service) return undefined;
  if (service.loadBalancing?.mode === 'Passthrough') return { kind: 'passthrough', to, service };
  const endpoint = pickEndpoint(view, { ...request, service, port: to.port, dialled: to.ip });
  if (!endpoint) throw new MeshError('no_healthy_upstream', `no healthy upstream: ${formatHostPort(to)}`);
  return toEndpoint(view, request, endpoint, service);
}

function viaWorkload(view: MeshView, request: RouteRequest): Route | NamedRoute | undefined {
  const { source, to, exclude } = request;
  const workload = view.workloads.byAddress(source.network, to.ip);
  if (!workload) return undefined;
  if (workload.waypoint && !comesFrom(view, workload.waypoint, request)) return toWaypoint(view, workload.waypoint, request);
  if (exclude?.has(workload.uid)) throw new MeshError('no_healthy_upstream', `no healthy upstream: ${formatHostPort(to)}`);
  return toEndpoint(view, request, { workload, ip: to.ip, port: to.port });
}

function toEndpoint(view: MeshView, request: RouteRequest, endpoint: Endpoint, service?: Service): Route | NamedRoute {
  const { workload, load } = endpoint;
  const chosen = { workload, ...(service ? { service } : {}), ...(load ? { load } : {}) };
  if (workload.network !== request.source.network)
    return throughGateway(view, request, { ...chosen, via: 'workload', trusted: service?.subjectAltNames });
  return placed(endpoint, request, chosen, (to) => {
    if (workload.protocol === 'TCP') return { kind: 'plain', to, ...chosen };
    const accepted = [...(service?.subjectAltNames ?? []), workload.identity];
    return { kind: 'hbone', to: knownAddress(to.ip, PORT.hbone), authority: to, accepted, ...chosen, via: 'workload' };
  });
}

function toWaypoint(view: MeshView, gateway: GatewayAddress, request: RouteRequest, service?: Service): Route | NamedRoute {
  const waypoint = resolveGateway(view, gateway, { ...request, role: 'waypoint' });
  const { workload, load } = waypoint.endpoint;
  const chosen = { workload, ...(service ? { service } : {}), ...(load ? { load } : {}) };
  const trusted = waypoint.service?.subjectAltNames;
  if (workload.network !== request.source.network) return throughGateway(view, request, { ...chosen, via: 'waypoint', trusted });
  return placed(waypoint.endpoint, request, chosen, (to) => ({
    kind: 'hbone',
    to,
    authority: request.to,
    accepted: [...(trusted ?? []), workload.identity],
    ...chosen,
    via: 'waypoint',
  }));
}

/** `trusted`: whom a peer beyond the gateway may be; its own identity is not known here for sure, only its service's. */
function throughGateway(
  view: MeshView,
  request: RouteRequest,
  { trusted, via, ...chosen }: Chosen & { trusted: readonly SpiffeId[] | undefined; via: 'workload' | 'waypoint' },
): Route | NamedRoute {
  const { workload, service } = chosen;
  const { networkGateway: name, network } = workload;
  const nowhere = (why: string): MeshError =>
    new MeshError(
      'unknown_destination',
      `no valid routing destination for workload: ${workload.uid} in network ${network} ${why}`,
    );
  if (!name) throw nowhere('names no network gateway');
  if (!service) throw nowhere('is not addressed through a service, whose name its network gateway needs');
  if (!trusted || trusted.length === 0) throw nowhere('has a service without subject_alt_names, which a peer there has to prove');
  // A gateway stands in the network that it leads to, and is dialled all the same.
  const gateway = resolveGateway(view, name, { ...request, role: 'network gateway', source: { ...request.source, network } });
  return placed(gateway.endpoint, request, chosen, (to) => ({
    kind: 'gateway',
    to,
    authority: `${service.hostname}:${request.to.port}`,
    gateway: [...(gateway.service?.subjectAltNames ?? []), gateway.endpoint.workload.identity],
    accepted: trusted,
    ...chosen,
    via,
  }));
}

/** The route to where the endpoint is: at once, or when its host name has been looked up. */
function placed(
  { workload: { hostname }, ip, port }: Endpoint,
  request: RouteRequest,
  chosen: Chosen,
  route: (to: HostPort) => Route,
): Route | NamedRoute {
  const { to } = request;
  if (ip !== undefined) return route(ip === to.ip && port === to.port ? to : knownAddress(ip, port));
  return {
    kind: 'named',
    hostname,
    ...chosen,
    at(addresses) {
      // Clients of a name spread over its addresses.
      const first = Math.floor(request.random() * addresses.length);
      const found = chooseIp([...addresses.slice(first), ...addresses.slice(0, first)], request.to.ip, chosen.service);
      if (found !== undefined) return route({ ip: found, port });
      throw new MeshError(
        'no_healthy_upstream',
        `no healthy upstream: ${hostname} has no address of a family that its service offers`,
      );
    },
  };
}

/** Weighted waypoints are sampled per connection; none with a weight falls back to the plain one. */
function chooseWaypoint(service: Service, random: number): GatewayAddress | undefined {
  const total = service.weightedWaypoints.reduce((sum, { weight }) => sum + weight, 0);
  let left = random * total;
  for (const { waypoint, weight } of service.weightedWaypoints) {
    left -= weight;
    if (left < 0) return waypoint;
  }
  return service.waypoint;
}

/** Traffic from any of them has passed a waypoint of the service: to another one, which may be drawn, it must not go either. */
function waypointsOf({ waypoint, weightedWaypoints }: Service): readonly GatewayAddress[] {
  if (weightedWaypoints.length === 0) return waypoint ? [waypoint] : [];
  return [...weightedWaypoints.map((weighted) => weighted.waypoint), ...(waypoint ? [waypoint] : [])];
}

/** A waypoint's own traffic must not be sent back to it. */
function comesFrom(view: MeshView, gateway: GatewayAddress, { source, sourceIp }: RouteRequest): boolean {
  return source.ips.includes(sourceIp) && gatewayHas(view, gateway, source);
}
