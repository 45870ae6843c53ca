// The CA's part of the control plane's configuration.
import type { EnvReader } from '#shared/env.ts';

export interface CaConfig {
  /** CA key, token key, root-cert.pem. */
  readonly stateDir: string;
  /** Folder of a plugged-in CA; undefined for a root of our own. */
  readonly cacertsDir: string | undefined;
  readonly trustDomain: string;
  /** DNS names and IP addresses of the server certificate. */
  readonly serverNames: readonly string[];
  /** `NAMESPACE/SERVICE-ACCOUNT` of node proxies. */
  readonly trustedNodeAccounts: readonly string[];
  /** Milliseconds. */
  readonly defaultTtl: number;
  readonly maxTtl: number;
}

const HOUR = 3_600_000;

/**
 * STATE_DIR (the control plane refuses to start without), PUBLIC_ADDRESS, TRUST_DOMAIN, ROOT_NAMESPACE as in docs/seams.md; ROOT_CA_DIR (a plugged-in CA), CA_TRUSTED_NODE_ACCOUNTS
 * (`ns/sa,…`, default ROOT_NAMESPACE/ztunnel), DEFAULT_WORKLOAD_CERT_TTL (24h), MAX_WORKLOAD_CERT_TTL (2160h).
 */
export function readCaConfig(env: EnvReader): CaConfig {
  const rootNamespace = env.string('ROOT_NAMESPACE', 'culvert-system');
  return {
    stateDir: env.string('STATE_DIR', ''),
    cacertsDir: env.optional('ROOT_CA_DIR'),
    trustDomain: env.string('TRUST_DOMAIN', 'cluster.local'),
    serverNames: serverNames(env, rootNamespace),
    trustedNodeAccounts: accounts(env, rootNamespace),
    defaultTtl: env.duration('DEFAULT_WORKLOAD_CERT_TTL', 24 * HOUR),
    maxTtl: env.duration('MAX_WORKLOAD_CERT_TTL', 90 * 24 * HOUR),
  };
}

/** The host that proxies dial, this machine, and the names by which Istio's own proxies know a control plane. */
function serverNames(env: EnvReader, rootNamespace: string): string[] {
  const names = [
    'localhost',
    '127.0.0.1',
    '::1',
    `istiod.${rootNamespace}.svc`,
    'istiod.istio-system.svc',
    `culvert.${rootNamespace}.svc`,
  ];
  const address = env.optional('PUBLIC_ADDRESS');
  if (address === undefined) return [...new Set(names)];
  const url = URL.parse(address);
  if (!url || url.hostname === '') env.faults.push(`PUBLIC_ADDRESS="${address}": not an address like https://HOST:15012`);
  else names.unshift(url.hostname.replace(/^\[(.*)\]$/u, '$1'));
  return [...new Set(names)];
}

function accounts(env: EnvReader, rootNamespace: string): string[] {
  const text = env.string('CA_TRUSTED_NODE_ACCOUNTS', `${rootNamespace}/ztunnel`);
  const list = text.split(',').map((account) => account.trim());
  for (const account of list)
    if (!/^[^/\s]+\/[^/\s]+$/u.test(account))
      env.faults.push(`CA_TRUSTED_NODE_ACCOUNTS: "${account}" is not NAMESPACE/SERVICE-ACCOUNT`);
  return list;
}
