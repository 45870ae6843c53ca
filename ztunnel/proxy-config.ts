// Istio's ProxyConfig, from the mesh file (its `defaultConfig`) and from PROXY_CONFIG, which wins field by field. What the environment
// says outright wins over both (facts: ztunnel 13).
import { MeshError } from '#shared/errors.ts';
import { parseYaml } from '#shared/yaml.ts';

/** Where the mesh configuration is mounted. */
export const MESH_FILE = './etc/istio/config/mesh';

export interface ProxyConfig {
  readonly discoveryAddress?: string;
  readonly proxyAdminPort?: number;
  readonly statsPort?: number;
  /** Threads that serve connections; 0: one for each core. */
  readonly concurrency?: number;
  /** Read as if it were the environment. */
  readonly proxyMetadata: Readonly<Record<string, string>>;
}

/** What the mesh file says of trust domains. */
export interface MeshTrust {
  readonly trustDomain?: string;
  readonly trustDomainAliases: readonly string[];
}

/** Faults name the field. */
export function readMeshTrust(mesh: string | undefined, faults: string[]): MeshTrust {
  const { trustDomain, trustDomainAliases = [] } = fieldsOf(document(mesh, MESH_FILE, []));
  const listed = Array.isArray(trustDomainAliases) ? (trustDomainAliases as readonly unknown[]) : [trustDomainAliases];
  const aliases = listed.filter((alias) => typeof alias === 'string');
  if (aliases.length < listed.length)
    faults.push(`${MESH_FILE}: trustDomainAliases: ${JSON.stringify(trustDomainAliases)} is no list of texts`);
  return {
    ...(typeof trustDomain === 'string' && trustDomain !== '' ? { trustDomain } : {}),
    trustDomainAliases: aliases,
  };
}

/** Texts are YAML; undefined: there is none. Faults name the field. */
export function readProxyConfig(mesh: string | undefined, proxy: string | undefined, faults: string[]): ProxyConfig {
  const base = fieldsOf(fieldsOf(document(mesh, MESH_FILE, faults))['defaultConfig']);
  const own = fieldsOf(document(proxy, 'PROXY_CONFIG', faults));
  const all = { ...base, ...own };
  const number = (name: string): number | undefined => {
    const value = all[name];
    if (value === undefined || value === null) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535) return value;
    faults.push(`proxy configuration: ${name}: ${JSON.stringify(value)} is no whole number from 0 to 65535`);
    return undefined;
  };
  const { discoveryAddress } = all;
  const [proxyAdminPort, statsPort, concurrency] = [number('proxyAdminPort'), number('statsPort'), number('concurrency')];
  return {
    ...(typeof discoveryAddress === 'string' && discoveryAddress !== '' ? { discoveryAddress } : {}),
    ...(proxyAdminPort === undefined ? {} : { proxyAdminPort }),
    ...(statsPort === undefined ? {} : { statsPort }),
    ...(concurrency === undefined ? {} : { concurrency }),
    proxyMetadata: { ...textsOf(base['proxyMetadata']), ...textsOf(own['proxyMetadata']) },
  };
}

/** Request headers of `XDS_HEADER_NAME=value`: the name after the prefix, in lower case. */
export function headersOf(env: Readonly<Record<string, string | undefined>>, prefix: string): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(env))
    if (value !== undefined && name.startsWith(prefix) && name.length > prefix.length)
      headers[name.slice(prefix.length).toLowerCase()] = value;
  return headers;
}

function document(text: string | undefined, where: string, faults: string[]): unknown {
  try {
    return text === undefined ? undefined : parseYaml(text);
  } catch (thrown) {
    faults.push(`${where}: ${MeshError.from(thrown).message}`);
    return undefined;
  }
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function textsOf(value: unknown): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fieldsOf(value)).map(([name, one]) => [name, typeof one === 'string' ? one : JSON.stringify(one)]),
  );
}
