// Builders for the input of the Envoy translation: a mesh in a few lines.
import { create } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
import {
  AppProtocol,
  type Service,
  ServiceSchema,
  TunnelProtocol,
  type Workload,
  WorkloadSchema,
} from '#shared/gen/istio/workload/workload_pb.ts';
import type { HTTPRoute, HTTPRouteRule, ParentReference } from '#shared/kube/gateway-api.ts';
import type { AuthorizationPolicy, AuthorizationPolicySpec } from '#shared/kube/istio-api.ts';
import type { MeshView, WaypointScope } from '../../../../controlplane/translate/envoy/model.ts';

export function bytesOf(ip: string): Uint8Array {
  const bytes = ipToBytes(ip);
  if (!bytes) throw new Error(`"${ip}" is not an address`);
  return bytes;
}

export interface ServiceOptions {
  name: string;
  vip: string;
  namespace?: string;
  ports?: { port: number; target: number; protocol?: AppProtocol }[];
}

export function aService({ name, vip, namespace = 'shop', ports = [{ port: 80, target: 8080 }] }: ServiceOptions): Service {
  return create(ServiceSchema, {
    name,
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    addresses: [{ address: bytesOf(vip) }],
    ports: ports.map(({ port, target, protocol = AppProtocol.HTTP11 }) => ({
      servicePort: port,
      targetPort: target,
      appProtocol: protocol,
    })),
  });
}

export interface WorkloadOptions {
  name: string;
  ip: string;
  service: Service;
  hbone?: boolean;
  serviceAccount?: string;
  /** Overrides the target port of every port. */
  target?: number;
}

export function aWorkload({ name, ip, service, hbone = true, serviceAccount = 'default', target }: WorkloadOptions): Workload {
  const { namespace, hostname, ports } = service;
  return create(WorkloadSchema, {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    addresses: [bytesOf(ip)],
    tunnelProtocol: hbone ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    serviceAccount,
    canonicalName: name,
    canonicalRevision: 'latest',
    workloadName: name,
    clusterId: 'Kubernetes',
    services: {
      [`${namespace}/${hostname}`]: { ports: ports.map((port) => ({ ...port, targetPort: target ?? port.targetPort })) },
    },
  });
}

export function aRoute(name: string, parents: ParentReference[], rules: HTTPRouteRule[], namespace = 'shop'): HTTPRoute {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: { name, namespace },
    spec: { parentRefs: parents, rules },
  };
}

export function aPolicy(name: string, spec: AuthorizationPolicySpec, namespace = 'shop'): AuthorizationPolicy {
  return { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', metadata: { name, namespace }, spec };
}

export function aMesh(parts: Partial<MeshView> = {}): MeshView {
  return {
    services: [],
    workloads: [],
    routes: [],
    policies: [],
    trustDomains: ['cluster.local'],
    clusterDomain: 'cluster.local',
    rootNamespace: 'culvert-system',
    ...parts,
  };
}

export function aScope(parts: Partial<WaypointScope> = {}): WaypointScope {
  return { namespace: 'shop', name: 'waypoint', className: 'istio-waypoint', services: [], workloads: [], ...parts };
}

/** A Service parent. */
export function service(name: string, port?: number): ParentReference {
  return { group: '', kind: 'Service', name, ...(port === undefined ? {} : { port }) };
}

/** A shop with an HTTP, a TCP and an undeclared port, two versions behind one service, a route with every action and policies. */
export function shop(): { mesh: MeshView; scope: WaypointScope } {
  const echo = aService({
    name: 'echo',
    vip: '10.96.0.1',
    ports: [
      { port: 80, target: 8080 },
      { port: 81, target: 8081, protocol: AppProtocol.UNKNOWN },
      { port: 6379, target: 6379, protocol: AppProtocol.TCP },
      { port: 7070, target: 7070, protocol: AppProtocol.GRPC },
    ],
  });
  const v1 = aService({ name: 'echo-v1', vip: '10.96.0.2' });
  const v2 = aService({ name: 'echo-v2', vip: '10.96.0.3' });
  const workloads = [
    aWorkload({ name: 'echo-v1-0', ip: '10.244.0.2', service: echo }),
    aWorkload({ name: 'v1-0', ip: '10.244.0.2', service: v1 }),
    aWorkload({ name: 'v2-0', ip: '10.244.1.2', service: v2, hbone: false }),
  ];
  const rules: HTTPRouteRule[] = [
    {
      matches: [
        { path: { type: 'Exact', value: '/exact' } },
        { path: { type: 'PathPrefix', value: '/prefix/one' }, method: 'GET' },
      ],
      filters: [
        {
          type: 'RequestHeaderModifier',
          requestHeaderModifier: {
            set: [{ name: 'X-Set', value: '100%' }],
            add: [{ name: 'X-Add', value: 'a' }],
            remove: ['X-Gone'],
          },
        },
        {
          type: 'URLRewrite',
          urlRewrite: { hostname: 'other', path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/one' } },
        },
      ],
      backendRefs: [
        { name: 'echo-v1', port: 80, weight: 90 },
        { name: 'echo-v2', port: 80, weight: 10 },
      ],
      timeouts: { request: '5s' },
    },
    {
      matches: [
        {
          path: { type: 'RegularExpression', value: '/re/[a-z]+' },
          headers: [{ name: 'version', value: 'one' }],
          queryParams: [{ name: 'animal', type: 'RegularExpression', value: 'wh.*' }],
        },
      ],
      backendRefs: [{ name: 'nobody', port: 80 }],
    },
    {
      matches: [{ path: { type: 'PathPrefix', value: '/old' } }],
      filters: [
        {
          type: 'RequestRedirect',
          requestRedirect: {
            hostname: 'example.org',
            path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/new' },
            statusCode: 301,
            port: 8083,
            scheme: 'https',
          },
        },
      ],
    },
  ];
  const policies = [
    aPolicy('deny', {
      targetRefs: [{ group: '', kind: 'Service', name: 'echo' }],
      action: 'DENY',
      rules: [{ to: [{ operation: { methods: ['DELETE'], paths: ['/admin/{*}'] } }] }],
    }),
    aPolicy('allow', {
      targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'waypoint' }],
      rules: [
        {
          from: [
            { source: { principals: ['cluster.local/ns/shop/sa/client'], ipBlocks: ['10.0.0.0/8'] } },
            { source: { namespaces: ['front'], notServiceAccounts: ['bad'] } },
          ],
          to: [{ operation: { hosts: ['echo*'], ports: ['80'], notPaths: ['/private*'] } }],
          when: [
            { key: 'request.headers[x-token]', values: ['*'] },
            { key: 'source.ip', notValues: ['10.9.0.0/16'] },
          ],
        },
      ],
    }),
  ];
  const mesh = aMesh({ services: [echo, v1, v2], workloads, routes: [aRoute('shop', [service('echo')], rules)], policies });
  return {
    mesh,
    scope: aScope({ services: [echo, v1], workloads: [aWorkload({ name: 'lone', ip: '10.244.0.9', service: echo })] }),
  };
}
