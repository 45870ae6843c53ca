// What both waypoints are configured with: services behind a waypoint with policy and routes, as the control plane translates them to
// Envoy's resources. Pure: addresses to messages.
import { create } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
import { type Listener, ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import {
  AppProtocol,
  type Service,
  ServiceSchema,
  TunnelProtocol,
  type Workload,
  WorkloadSchema,
} from '#shared/gen/istio/workload/workload_pb.ts';
import { spiffeId } from '#shared/ids.ts';
import { PORT } from '#shared/ports.ts';
import type { HTTPRoute, HTTPRouteRule } from '#shared/kube/gateway-api.ts';
import type { AuthorizationPolicy } from '#shared/kube/istio-api.ts';
import { socketAddress } from '../../controlplane/translate/envoy/messages.ts';
import type { EnvoyResources } from '../../controlplane/translate/envoy/model.ts';
import { waypointResources } from '../../controlplane/translate/envoy/waypoint.ts';

export const NAMESPACE = 'bench';
export const WAYPOINT_ID = identityOf('waypoint');
export const CLIENT_ID = identityOf('client');
export const POD_ID = identityOf('pod');

export const HTTP_PORT = 8080;
export const GRPC_PORT = 9090;
/** Where requests go to: the last of the routes. */
export const HTTP_PATH = '/orders/list?page=2';
export const GRPC_PATH = '/bench.Echo/Call';

/** Of the L7 policy that every request is checked against, beside two that deny. */
const RULES = 100;

/** Addresses of one waypoint's own: nothing is shared between the two that are compared. */
export interface Addresses {
  /** Where it takes tunnels. */
  readonly waypoint: string;
  /** Of the service whose pod is reached in plaintext, of the one behind a tunnel, and of the gRPC one. */
  readonly plain: string;
  readonly tunnelled: string;
  readonly grpc: string;
  /** Of the pod outside of the mesh, and of the one that ends tunnels. */
  readonly outsidePod: string;
  readonly pod: string;
}

function identityOf(serviceAccount: string): ReturnType<typeof spiffeId> {
  return spiffeId({ trustDomain: 'cluster.local', namespace: NAMESPACE, serviceAccount });
}

export function resourcesOf(at: Addresses): EnvoyResources {
  const services = [
    serviceOf('plain', at.plain, HTTP_PORT, AppProtocol.HTTP11),
    serviceOf('tunnelled', at.tunnelled, HTTP_PORT, AppProtocol.HTTP11),
    serviceOf('grpc', at.grpc, GRPC_PORT, AppProtocol.GRPC),
  ];
  const workloads = services.map((service) => workloadOf(service, service.name === 'tunnelled' ? at.pod : at.outsidePod));
  const routes = services.map(routeOf);
  const mesh = {
    services,
    workloads,
    routes,
    policies: services.flatMap((service) => [denialsOf(service), hundredRulesOf(service)]),
    trustDomains: ['cluster.local'],
  };
  return waypointResources(
    { ...mesh, clusterDomain: 'cluster.local', rootNamespace: 'culvert-system' },
    { namespace: NAMESPACE, name: 'waypoint', className: 'istio-waypoint', services, workloads: [] },
  );
}

/**
 * For a real Envoy: tunnels at its own address, and the chains of `main_internal` also on plain sockets of the services' addresses, which
 * is where our own waypoint is given connections without a tunnel.
 */
export function envoyListeners({ listeners }: EnvoyResources, at: Addresses): Listener[] {
  return listeners.flatMap((listener) => {
    if (listener.name === 'connect_terminate')
      return [create(ListenerSchema, { ...listener, address: socketAddress(at.waypoint, PORT.hbone) })];
    if (listener.name !== 'main_internal') return [listener];
    const plain = [socketAddress(at.plain, HTTP_PORT), socketAddress(at.grpc, GRPC_PORT)].map((address, index) =>
      create(ListenerSchema, {
        ...listener,
        name: `plain-${index}`,
        address,
        listenerSpecifier: { case: undefined },
        listenerFilters: [],
      }),
    );
    return [listener, ...plain];
  });
}

function serviceOf(name: string, vip: string, port: number, appProtocol: AppProtocol): Service {
  return create(ServiceSchema, {
    name,
    namespace: NAMESPACE,
    hostname: `${name}.${NAMESPACE}.svc.cluster.local`,
    addresses: [{ address: bytesOf(vip) }],
    ports: [{ servicePort: port, targetPort: port, appProtocol }],
  });
}

function workloadOf(service: Service, ip: string): Workload {
  const { name, namespace, hostname, ports } = service;
  return create(WorkloadSchema, {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    addresses: [bytesOf(ip)],
    tunnelProtocol: name === 'tunnelled' ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    serviceAccount: 'pod',
    canonicalName: name,
    canonicalRevision: 'latest',
    workloadName: name,
    clusterId: 'Kubernetes',
    services: { [`${namespace}/${hostname}`]: { ports } },
  });
}

/** Six rules that do not match, then the one that does, with a header set each way. */
function routeOf({ name }: Service): HTTPRoute {
  const backendRefs = [{ name, port: name === 'grpc' ? GRPC_PORT : HTTP_PORT }];
  const others = ['/users', '/carts', '/stock', '/prices'].map((value): HTTPRouteRule => ({
    matches: [{ path: { type: 'PathPrefix', value } }],
    backendRefs,
  }));
  const byHeader = ['one', 'two'].map((value): HTTPRouteRule => ({
    matches: [{ path: { type: 'PathPrefix', value: '/' }, headers: [{ name: 'version', value }] }],
    backendRefs,
  }));
  const matching: HTTPRouteRule = {
    matches: [{ path: { type: 'PathPrefix', value: name === 'grpc' ? '/bench.Echo' : '/orders' } }],
    filters: [
      { type: 'RequestHeaderModifier', requestHeaderModifier: { set: [{ name: 'x-tier', value: 'gold' }], remove: ['x-debug'] } },
      { type: 'ResponseHeaderModifier', responseHeaderModifier: { set: [{ name: 'x-served-by', value: 'mesh' }] } },
    ],
    backendRefs,
  };
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: { name, namespace: NAMESPACE },
    spec: { parentRefs: [{ group: '', kind: 'Service', name }], rules: [...others, ...byHeader, matching] },
  };
}

function denialsOf({ name }: Service): AuthorizationPolicy {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace: NAMESPACE },
    spec: {
      targetRefs: [{ group: '', kind: 'Service', name }],
      action: 'DENY',
      rules: [{ to: [{ operation: { paths: ['/admin/*', '/internal/*'] } }] }, { to: [{ operation: { methods: ['DELETE'] } }] }],
    },
  };
}

/** The rules that let clients in come last: by identity through a tunnel, by request without one. */
function hundredRulesOf({ name }: Service): AuthorizationPolicy {
  const strangers = Array.from({ length: RULES - 2 }, (_, index) => ({
    from: [{ source: { principals: [`cluster.local/ns/other/sa/stranger-${index}`] } }],
    to: [{ operation: { ports: [String(HTTP_PORT), String(GRPC_PORT)] } }],
  }));
  const client = { from: [{ source: { principals: [`cluster.local/ns/${NAMESPACE}/sa/client`] } }] };
  const request = { to: [{ operation: { methods: ['GET', 'POST'], paths: ['/orders/*', '/bench.Echo/*'] } }] };
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: `${name}-hundred-rules`, namespace: NAMESPACE },
    spec: { targetRefs: [{ group: '', kind: 'Service', name }], action: 'ALLOW', rules: [...strangers, client, request] },
  };
}

function bytesOf(ip: string): Uint8Array {
  const bytes = ipToBytes(ip);
  if (!bytes) throw new Error(`"${ip}" is no address`);
  return bytes;
}
