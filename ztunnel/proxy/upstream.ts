// Where an outbound connection goes: waypoint, service endpoint, workload, or on as it was. A pure decision on the state at hand, so
// that each row of the table in docs/life-of-a-connection.md is a line of a test.
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { SpiffeId, WorkloadUid } from '#shared/ids.ts';
import { PORT } from '#shared/ports.ts';
import type { Balancer } from '../state/balancer.ts';
import type { Endpoint } from '../state/load-balance.ts';
import { pickEndpoint } from '../state/load-balance.ts';
import type { GatewayAddress, Service, Workload } from '../state/model.ts';
import type { MeshView } from '../state/store.ts';
import type { EndpointLoad } from '../state/two-choices.ts';
import { gatewayHas, resolveGateway } from '../state/gateway.ts';

export type Route =
  /** Nothing is known of the destination, or its service wants to be left alone: on to where the client meant to go. */
  | { readonly kind: 'passthrough'; readonly to: HostPort; readonly service?: Service }
  /** A known workload without a tunnel: in the clear. */
  | {
      readonly kind: 'plain';
      readonly to: HostPort;
      readonly workload: Workload;
      readonly service?: Service;
      readonly load?: EndpointLoad;
    }
  | {
      readonly kind: 'hbone';
      readonly to: HostPort;
      /** What the tunnel asks for. */
      readonly authority: HostPort;
      /** The peer must present one of these. */
      readonly accepted: readonly SpiffeId[];
      /** Who answers: the destination, or its waypoint. */
      readonly workload: Workload;
      readonly service?: Service;
      readonly via: 'workload' | 'waypoint';
      /** Of the endpoint that was chosen among several. */
      readonly load?: EndpointLoad;
    };

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
  readonly decide: (view: MeshView, request: RouteRequest) => Route | undefined;
}

/** In the order in which they are asked; where none decides, the connection goes on as it was. */
export const ROUTE_RULES: readonly RouteRule[] = [
  { name: 'waypoint of the service', decide: viaServiceWaypoint },
  { name: 'service', decide: viaService },
  { name: 'workload', decide: viaWorkload },
];

/** Throws `no_healthy_upstream` or `unknown_destination`. */
export function decideRoute(view: MeshView, request: RouteRequest): Route {
  for (const rule of ROUTE_RULES) {
    const route = rule.decide(view, request);
    if (route) return route;
  }
  return { kind: 'passthrough', to: request.to };
}

/** A service's waypoint beats everything, even PASSTHROUGH; it gets the address that the client dialled. */
function viaServiceWaypoint(view: MeshView, request: RouteRequest): Route | undefined {
  const { source, to, network, random } = request;
  if (view.workloads.byAddress(network, to.ip)) return undefined;
  const service = view.services.byVip(network, to.ip, source.namespace);
  const gateway = service && chooseWaypoint(service, random());
  if (!service || !gateway || comesFrom(view, gateway, request)) return undefined;
  return toWaypoint(view, gateway, request, service);
}

function viaService(view: MeshView, request: RouteRequest): Route | undefined {
  const { source, to } = request;
  const service = view.services.byVip(source.network, to.ip, source.namespace);
  if (!service) return undefined;
  if (service.loadBalancing?.mode === 'Passthrough') return { kind: 'passthrough', to, service };
  const endpoint = pickEndpoint(view, { ...request, service, port: to.port, dialled: to.ip });
  if (!endpoint) throw new MeshError('no_healthy_upstream', `no healthy upstream: ${formatHostPort(to)}`);
  return toEndpoint(endpoint, service);
}

function viaWorkload(view: MeshView, request: RouteRequest): Route | undefined {
  const { source, to, exclude } = request;
  const workload = view.workloads.byAddress(source.network, to.ip);
  if (!workload) return undefined;
  if (workload.waypoint && !comesFrom(view, workload.waypoint, request)) return toWaypoint(view, workload.waypoint, request);
  if (exclude?.has(workload.uid)) throw new MeshError('no_healthy_upstream', `no healthy upstream: ${formatHostPort(to)}`);
  return toEndpoint({ workload, ip: to.ip, port: to.port });
}

function toEndpoint({ workload, ip, port, load }: Endpoint, service?: Service): Route {
  const target: HostPort = { ip, port };
  const common = { workload, ...(service ? { service } : {}), ...(load ? { load } : {}) };
  if (workload.protocol === 'TCP') return { kind: 'plain', to: target, ...common };
  const accepted = [...(service?.subjectAltNames ?? []), workload.identity];
  return { kind: 'hbone', to: { ip, port: PORT.hbone }, authority: target, accepted, ...common, via: 'workload' };
}

function toWaypoint(view: MeshView, gateway: GatewayAddress, request: RouteRequest, service?: Service): Route {
  const waypoint = resolveGateway(view, gateway, request);
  const { workload, load } = waypoint.endpoint;
  return {
    kind: 'hbone',
    to: { ip: waypoint.endpoint.ip, port: waypoint.endpoint.port },
    authority: request.to,
    accepted: [...(waypoint.service?.subjectAltNames ?? []), workload.identity],
    workload,
    ...(service ? { service } : {}),
    ...(load ? { load } : {}),
    via: 'waypoint',
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

/** A waypoint's own traffic must not be sent back to it. */
function comesFrom(view: MeshView, gateway: GatewayAddress, { source, sourceIp }: RouteRequest): boolean {
  return source.ips.includes(sourceIp) && gatewayHas(view, gateway, source);
}
