// What a ztunnel's /explain answers (docs/explain.md).

export interface Explanation {
  source: { workload: string; identity: string; node: string };
  destination: string;
  service?: string;
  rule: string;
  why: readonly string[];
  nextHop?: {
    kind: string;
    address: string;
    workload?: string;
    authority?: string;
    identities: readonly string[];
    gatewayIdentities?: readonly string[];
  };
  endpoints: readonly { workload: string; address: string; group?: number; reason?: string }[];
  policies?: { allowed: boolean; reason: string; dryRun: readonly string[] };
  revoked?: { end: string; identity: string; serial: string };
  error?: { code: string; message: string; responseFlags: string };
}
