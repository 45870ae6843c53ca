// The kinds that the mesh reads: one table for the readers (API version, scope, schema) and one TypeScript type per kind. The
// types of the Gateway API and of Istio are in their own files beside this one.
import type { V1PodSpec } from '@kubernetes/client-node/dist/gen/models/V1PodSpec.js';
import type { V1ServicePort } from '@kubernetes/client-node/dist/gen/models/V1ServicePort.js';
import type { V1ServiceSpec } from '@kubernetes/client-node/dist/gen/models/V1ServiceSpec.js';
import type { Gateway, GatewayClass, HTTPRoute } from './gateway-api.ts';
import type { AuthorizationPolicy, PeerAuthentication } from './istio-api.ts';
import type { KubeObject, ObjectMeta } from './object.ts';
import type { LabelSelector } from './selectors.ts';

/** Where the fields of a kind are defined: a model class of the Kubernetes client, or a CRD of manifests/crds/. */
export type SchemaRef = { readonly model: string } | { readonly crd: string };

export interface KindInfo {
  readonly apiVersions: readonly string[];
  readonly namespaced: boolean;
  readonly schema: SchemaRef;
}

const GATEWAY_VERSIONS = ['gateway.networking.k8s.io/v1', 'gateway.networking.k8s.io/v1beta1'];
const SECURITY_VERSIONS = ['security.istio.io/v1', 'security.istio.io/v1beta1'];

export const KINDS = {
  Namespace: { apiVersions: ['v1'], namespaced: false, schema: { model: 'V1Namespace' } },
  Node: { apiVersions: ['v1'], namespaced: false, schema: { model: 'V1Node' } },
  ServiceAccount: { apiVersions: ['v1'], namespaced: true, schema: { model: 'V1ServiceAccount' } },
  ConfigMap: { apiVersions: ['v1'], namespaced: true, schema: { model: 'V1ConfigMap' } },
  Pod: { apiVersions: ['v1'], namespaced: true, schema: { model: 'V1Pod' } },
  Deployment: { apiVersions: ['apps/v1'], namespaced: true, schema: { model: 'V1Deployment' } },
  Service: { apiVersions: ['v1'], namespaced: true, schema: { model: 'V1Service' } },
  GatewayClass: { apiVersions: GATEWAY_VERSIONS, namespaced: false, schema: { crd: 'gatewayclass' } },
  Gateway: { apiVersions: GATEWAY_VERSIONS, namespaced: true, schema: { crd: 'gateway' } },
  HTTPRoute: { apiVersions: GATEWAY_VERSIONS, namespaced: true, schema: { crd: 'httproute' } },
  AuthorizationPolicy: { apiVersions: SECURITY_VERSIONS, namespaced: true, schema: { crd: 'authorizationpolicy' } },
  PeerAuthentication: { apiVersions: SECURITY_VERSIONS, namespaced: true, schema: { crd: 'peerauthentication' } },
} as const satisfies Record<string, KindInfo>;

export type Kind = keyof typeof KINDS;

/** The type of each kind, for typed stores: `KindTypes['Pod']` is `Pod`. */
export interface KindTypes {
  Namespace: Namespace;
  Node: Node;
  ServiceAccount: ServiceAccount;
  ConfigMap: ConfigMap;
  Pod: Pod;
  Deployment: Deployment;
  Service: Service;
  GatewayClass: GatewayClass;
  Gateway: Gateway;
  HTTPRoute: HTTPRoute;
  AuthorizationPolicy: AuthorizationPolicy;
  PeerAuthentication: PeerAuthentication;
}

export function isKind(kind: string): kind is Kind {
  return Object.hasOwn(KINDS, kind);
}

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
  observedGeneration?: number;
}

export type Namespace = KubeObject<'Namespace', { finalizers?: string[] }, { phase?: string }>;
export type ServiceAccount = KubeObject<'ServiceAccount', never, never>;

export interface ConfigMap extends KubeObject<'ConfigMap', never, never> {
  data?: Record<string, string>;
  binaryData?: Record<string, string>;
}

export type Node = KubeObject<
  'Node',
  { podCIDR?: string; podCIDRs?: string[]; unschedulable?: boolean },
  { addresses?: { type: string; address: string }[]; conditions?: Condition[] }
>;

export interface PodStatus {
  phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
  podIP?: string;
  podIPs?: { ip: string }[];
  hostIP?: string;
  conditions?: Condition[];
  reason?: string;
  message?: string;
  startTime?: string;
}

export type PodSpec = V1PodSpec;
export type Pod = KubeObject<'Pod', PodSpec, PodStatus>;

export interface DeploymentSpec {
  replicas?: number;
  selector: LabelSelector;
  template: { metadata?: Partial<ObjectMeta>; spec?: PodSpec };
  [other: string]: unknown;
}

export type Deployment = KubeObject<'Deployment', DeploymentSpec, { replicas?: number; readyReplicas?: number }>;

export type ServicePort = V1ServicePort;
export type Service = KubeObject<'Service', V1ServiceSpec, { conditions?: Condition[] }>;
