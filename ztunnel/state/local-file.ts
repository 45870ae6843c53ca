// State from a file instead of a control plane (LOCAL_XDS_PATH): the same YAML as Istio's ztunnel reads, in the field names of
// /config_dump (facts: ztunnel 8). For tests and for running one ztunnel by itself.
import { readFile } from 'node:fs/promises';
import { canonicalIp, ipToBytes } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { parseYaml } from '#shared/yaml.ts';
import { isSpiffeId, namespacedHostname, spiffeId, workloadUid } from '#shared/ids.ts';
import type { NamespacedHostname } from '#shared/ids.ts';
import type { Cidr } from './cidr.ts';
import type {
  GatewayAddress,
  LoadBalancing,
  Match,
  NetworkAddress,
  Policy,
  PortMap,
  Scope,
  Service,
  ServiceAccountMatch,
  StringMatch,
  Workload,
} from './model.ts';
import { networkAddress } from './model.ts';
import type { StateChange } from './store.ts';
import { YamlReader } from './yaml-reader.ts';

/** Reads and checks the whole file; rejects with `invalid_config` naming file and field. */
export async function readStateFile(path: string): Promise<StateChange[]> {
  try {
    return parseState(await readFile(path, 'utf8'));
  } catch (thrown) {
    throw new MeshError('invalid_config', `${path}: ${MeshError.from(thrown).message}`, { cause: thrown });
  }
}

/** Throws `invalid_config` naming the field. */
export function parseState(yaml: string): StateChange[] {
  const root = new YamlReader(parseYaml(yaml), '');
  const changes: StateChange[] = [
    ...root.list('services').map((entry) => ({ kind: 'service' as const, service: readService(entry) })),
    ...root.list('workloads').map((entry) => ({ kind: 'workload' as const, workload: readWorkload(entry) })),
    ...root.list('policies').map((entry) => ({ kind: 'policy' as const, policy: readPolicy(entry) })),
  ];
  root.done();
  return changes;
}

function readWorkload(entry: YamlReader): Workload {
  const namespace = entry.text('namespace');
  const name = entry.text('name');
  const trustDomain = entry.text('trustDomain', 'cluster.local');
  const serviceAccount = entry.text('serviceAccount', 'default');
  const tunnel = entry.optionalMap('applicationTunnel');
  const port = tunnel?.number('port', 0);
  const waypoint = readGateway(entry.optionalMap('waypoint'));
  const networkGateway = readGateway(entry.optionalMap('networkGateway'));
  const locality = entry.optionalMap('locality');
  const workload: Workload = {
    uid: workloadUid(entry.text('uid', `Kubernetes//Pod/${namespace}/${name}`)),
    name,
    namespace,
    trustDomain,
    serviceAccount,
    identity: spiffeId({ trustDomain, namespace, serviceAccount }),
    network: entry.text('network', ''),
    ips: entry.texts('workloadIps').map((text) => readIp(text, entry.field('workloadIps'))),
    hostname: entry.text('hostname', ''),
    protocol: entry.oneOf('protocol', ['HBONE', 'TCP'], 'TCP'),
    networkMode: entry.oneOf('networkMode', ['Standard', 'HostNetwork'], 'Standard'),
    ...(waypoint ? { waypoint } : {}),
    ...(networkGateway ? { networkGateway } : {}),
    node: entry.text('node', ''),
    workloadName: entry.text('workloadName', ''),
    workloadType: entry.oneOf('workloadType', ['deployment', 'cronjob', 'pod', 'job'], 'deployment'),
    canonicalName: entry.text('canonicalName', ''),
    canonicalRevision: entry.text('canonicalRevision', ''),
    nativeTunnel: entry.flag('nativeTunnel'),
    ...(tunnel
      ? { applicationTunnel: { protocol: tunnel.oneOf('protocol', ['NONE', 'PROXY'], 'NONE'), ...(port ? { port } : {}) } }
      : {}),
    services: new Map(entry.entries('services').map(([key, ports]) => [hostKey(key, entry.field('services')), readPorts(ports)])),
    authorizationPolicies: entry.texts('authorizationPolicies'),
    status: entry.oneOf('status', ['Healthy', 'Unhealthy'], 'Healthy'),
    clusterId: entry.text('clusterId', 'Kubernetes'),
    locality: {
      region: locality?.text('region', '') ?? '',
      zone: locality?.text('zone', '') ?? '',
      subzone: locality?.text('subzone', '') ?? '',
    },
    capacity: entry.number('capacity', 1),
  };
  tunnel?.done();
  locality?.done();
  entry.done();
  return workload;
}

function readService(entry: YamlReader): Service {
  const namespace = entry.text('namespace');
  const hostname = entry.text('hostname');
  const waypoint = readGateway(entry.optionalMap('waypoint'));
  const balancer = entry.optionalMap('loadBalancer');
  const service: Service = {
    key: namespacedHostname(namespace, hostname),
    name: entry.text('name', hostname.split('.')[0]),
    namespace,
    hostname,
    vips: entry.texts('vips').map((text) => readAddress(text, entry.field('vips'))),
    cidrVips: [],
    ports: readPorts(entry.optionalMap('ports')),
    subjectAltNames: entry.texts('subjectAltNames').filter(isSpiffeId),
    ...(waypoint ? { waypoint } : {}),
    weightedWaypoints: [],
    ...(balancer ? { loadBalancing: readBalancer(balancer) } : {}),
    canonical: entry.flag('canonical'),
    visibility: entry.oneOf('visibility', ['Public', 'Namespace'], 'Public'),
  };
  entry.done();
  return service;
}

function readBalancer(entry: YamlReader): LoadBalancing {
  const scopes: readonly Scope[] = ['REGION', 'ZONE', 'SUBZONE', 'NODE', 'CLUSTER', 'NETWORK'];
  const balancing: LoadBalancing = {
    mode: entry.oneOf('mode', ['Standard', 'Strict', 'Failover', 'Passthrough'], 'Standard'),
    preferences: entry.texts('routingPreferences').map((text) => {
      const scope = scopes.find((each) => each === text.toUpperCase());
      if (!scope)
        throw new MeshError(
          'invalid_config',
          `${entry.field('routingPreferences')}: "${text}" is not one of ${scopes.join(', ')}`,
        );
      return scope;
    }),
    health: entry.oneOf('healthPolicy', ['OnlyHealthy', 'AllowAll'], 'OnlyHealthy'),
  };
  entry.done();
  return balancing;
}

function readPolicy(entry: YamlReader): Policy {
  const name = entry.text('name');
  const namespace = entry.text('namespace', '');
  const policy: Policy = {
    key: `${namespace}/${name}`,
    name,
    namespace,
    scope: entry.oneOf('scope', ['Global', 'Namespace', 'WorkloadSelector'], 'Global'),
    action: entry.oneOf('action', ['Allow', 'Deny'], 'Allow'),
    dryRun: entry.flag('dryRun'),
    rules: entry.nested('rules').map((rule) => rule.map((clause) => clause.map(readMatch))),
  };
  entry.done();
  return policy;
}

function readMatch(entry: YamlReader): Match {
  const strings = (name: string): StringMatch[] => entry.list(name).map(readString);
  const cidrs = (name: string): Cidr[] => entry.texts(name).map((text) => readCidr(text, entry.field(name)));
  const accounts = (name: string): ServiceAccountMatch[] =>
    entry.list(name).map((each) => ({ namespace: each.text('namespace'), serviceAccount: each.text('serviceAccount') }));
  const match: Match = {
    namespaces: strings('namespaces'),
    notNamespaces: strings('notNamespaces'),
    principals: strings('principals'),
    notPrincipals: strings('notPrincipals'),
    serviceAccounts: accounts('serviceAccounts'),
    notServiceAccounts: accounts('notServiceAccounts'),
    sourceIps: cidrs('sourceIps'),
    notSourceIps: cidrs('notSourceIps'),
    destinationIps: cidrs('destinationIps'),
    notDestinationIps: cidrs('notDestinationIps'),
    destinationPorts: entry.numbers('destinationPorts'),
    notDestinationPorts: entry.numbers('notDestinationPorts'),
  };
  entry.done();
  return match;
}

/** `Exact: text`, `Prefix: text`, `Suffix: text` or `Presence: {}` */
function readString(entry: YamlReader): StringMatch {
  const [[kind, value] = ['', undefined]] = entry.entries('');
  switch (kind.toLowerCase()) {
    case 'exact':
    case 'prefix':
    case 'suffix':
      return { kind: kind.toLowerCase() as 'exact', value: String(value?.value) };
    case 'presence':
      return { kind: 'presence' };
    default:
      throw new MeshError('invalid_config', `${entry.field('')}: "${kind}" is not one of Exact, Prefix, Suffix, Presence`);
  }
}

function readGateway(entry: YamlReader | undefined): GatewayAddress | undefined {
  if (!entry) return undefined;
  const destination = entry.text('destination');
  const port = entry.number('hboneMtlsPort', 15008);
  entry.done();
  const slash = destination.indexOf('/');
  const ip = canonicalIp(destination.slice(slash + 1));
  if (ip !== undefined) return { kind: 'address', network: destination.slice(0, Math.max(slash, 0)), ip, port };
  return { kind: 'hostname', host: hostKey(destination, entry.field('destination')), port };
}

function readPorts(entry: YamlReader | undefined): PortMap {
  return new Map((entry?.entries('') ?? []).map(([port, target]) => [Number(port), Number(target.value)]));
}

function readIp(text: string, field: string): string {
  const ip = canonicalIp(text);
  if (ip === undefined) throw new MeshError('invalid_config', `${field}: "${text}" is not an IP address`);
  return ip;
}

function readAddress(text: string, field: string): NetworkAddress {
  const slash = text.lastIndexOf('/');
  return networkAddress(text.slice(0, Math.max(slash, 0)), readIp(text.slice(slash + 1), field));
}

function readCidr(text: string, field: string): Cidr {
  const [ip = '', length] = text.split('/');
  const bytes = ipToBytes(ip);
  const bits = length === undefined ? (bytes?.length ?? 0) * 8 : Number(length);
  if (!bytes || !Number.isInteger(bits) || bits < 0 || bits > bytes.length * 8)
    throw new MeshError('invalid_config', `${field}: "${text}" is not an address block`);
  return { bytes, length: bits };
}

function hostKey(text: string, field: string): NamespacedHostname {
  const slash = text.indexOf('/');
  if (slash < 0) throw new MeshError('invalid_config', `${field}: "${text}" is not NAMESPACE/HOSTNAME`);
  return namespacedHostname(text.slice(0, slash), text.slice(slash + 1));
}
