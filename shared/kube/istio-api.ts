// The Istio security kinds as the mesh reads them (security.istio.io/v1). The complete schema is manifests/crds/.
import type { Condition } from './kinds.ts';
import type { KubeObject } from './object.ts';

export interface WorkloadSelector {
  matchLabels?: Record<string, string>;
}

export interface PolicyTargetReference {
  group?: string;
  kind: string;
  name: string;
  namespace?: string;
}

/** Every list may hold `*`, `x*`, `*x` and exact values unless the field says otherwise. */
export interface PolicySource {
  principals?: string[];
  notPrincipals?: string[];
  requestPrincipals?: string[];
  notRequestPrincipals?: string[];
  namespaces?: string[];
  notNamespaces?: string[];
  /** `NAMESPACE/NAME`, or `NAME` in the namespace of the policy. */
  serviceAccounts?: string[];
  notServiceAccounts?: string[];
  /** Addresses or CIDR blocks. */
  ipBlocks?: string[];
  notIpBlocks?: string[];
  remoteIpBlocks?: string[];
  notRemoteIpBlocks?: string[];
}

export interface PolicyOperation {
  hosts?: string[];
  notHosts?: string[];
  ports?: string[];
  notPorts?: string[];
  methods?: string[];
  notMethods?: string[];
  paths?: string[];
  notPaths?: string[];
}

export interface PolicyCondition {
  key: string;
  values?: string[];
  notValues?: string[];
}

export interface PolicyRule {
  from?: { source?: PolicySource }[];
  to?: { operation?: PolicyOperation }[];
  when?: PolicyCondition[];
}

export interface AuthorizationPolicySpec {
  selector?: WorkloadSelector;
  targetRef?: PolicyTargetReference;
  targetRefs?: PolicyTargetReference[];
  /** Default ALLOW. */
  action?: 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM';
  provider?: { name?: string };
  rules?: PolicyRule[];
}

export type AuthorizationPolicy = KubeObject<'AuthorizationPolicy', AuthorizationPolicySpec, { conditions?: Condition[] }>;

export type MtlsMode = 'UNSET' | 'DISABLE' | 'PERMISSIVE' | 'STRICT';

export interface PeerAuthenticationSpec {
  selector?: WorkloadSelector;
  mtls?: { mode?: MtlsMode };
  /** Key: port of the workload, as text. */
  portLevelMtls?: Record<string, { mode?: MtlsMode }>;
}

export type PeerAuthentication = KubeObject<'PeerAuthentication', PeerAuthenticationSpec, { conditions?: Condition[] }>;
