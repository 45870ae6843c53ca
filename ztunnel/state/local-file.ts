// State from a file or a variable instead of a control plane, or beside it (LOCAL_XDS_PATH, LOCAL_XDS): the same YAML as Istio's ztunnel
// reads, in the field names of /config_dump (facts: ztunnel 8). For tests and for running one ztunnel by itself.
import { readFile } from 'node:fs/promises';
import { ipFromBytes } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { parseYaml } from '#shared/yaml.ts';
import { isSpiffeId, namespacedHostname, spiffeId, workloadUid } from '#shared/ids.ts';
import type { NamespacedHostname, WorkloadUid } from '#shared/ids.ts';
import { readPolicy, STRING_MATCHES } from './local-policy.ts';
import { readAddress, readCidr, readGateway, readHost, readIp, readPorts } from './local-values.ts';
import type { CidrVip, LoadBalancing, PortMap, Scope, Service, Workload } from './model.ts';
import type { StateChange } from './store.ts';
import { YamlReader } from './yaml-reader.ts';

/** Where state of its own comes from. At most one is set. */
export interface LocalState {
  readonly localXdsPath: string | undefined;
  /** The text itself. */
  readonly localXds: string | undefined;
  /** Of workloads that name none. */
  readonly clusterId: string;
}

/** Reads and checks all of it; rejects with `invalid_config` naming file or variable, and field. */
export async function readLocalState({ localXdsPath: path, localXds: text, clusterId }: LocalState): Promise<StateChange[]> {
  try {
    if (path !== undefined) return parseState(await readFile(path, 'utf8'), clusterId);
    return text === undefined ? [] : parseState(text, clusterId);
  } catch (thrown) {
    throw new MeshError('invalid_config', `${path ?? 'LOCAL_XDS'}: ${MeshError.from(thrown).message}`, { cause: thrown });
  }
}

/** Throws `invalid_config` naming the field. `clusterId`: of workloads that name none. */
export function parseState(yaml: string, clusterId = 'Kubernetes'): StateChange[] {
  const root = new YamlReader(parseYaml(yaml, { tags: STRING_MATCHES }), '');
  const served: Served = new Map();
  const changes: StateChange[] = [
    ...root.list('services').map((entry) => ({ kind: 'service' as const, service: readService(entry, served) })),
    ...root
      .list('workloads')
      .map((entry) => ({ kind: 'workload' as const, workload: readWorkload(entry, { served, clusterId }) })),
    ...root.list('policies').map((entry) => ({ kind: 'policy' as const, policy: readPolicy(entry) })),
  ];
  root.done();
  return changes;
}

/** What services say of their endpoints, for the workloads that do not say it themselves. */
type Served = Map<WorkloadUid, Map<NamespacedHostname, PortMap>>;

function readWorkload(entry: YamlReader, { served, clusterId }: { served: Served; clusterId: string }): Workload {
  const namespace = entry.text('namespace');
  const name = entry.text('name', '');
  const trustDomain = entry.text('trustDomain', 'cluster.local');
  const serviceAccount = entry.text('serviceAccount', 'default');
  const tunnel = entry.optionalMap('applicationTunnel');
  const port = tunnel?.number('port', 0);
  const waypoint = readGateway(entry.optionalMap('waypoint'));
  const networkGateway = readGateway(entry.optionalMap('networkGateway'));
  const locality = entry.optionalMap('locality');
  // Without a name there must be a uid: two workloads without either would be one.
  const uid = workloadUid(entry.text('uid', name === '' ? undefined : `${clusterId}//Pod/${namespace}/${name}`));
  const own = entry
    .entries('services')
    .map(([key, ports]) => [readHost(key, entry.field('services')), readPorts(ports)] as const);
  const workload: Workload = {
    uid,
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
    services: new Map([...(served.get(uid) ?? []), ...own]),
    authorizationPolicies: entry.texts('authorizationPolicies'),
    status: entry.oneOf('status', ['Healthy', 'Unhealthy'], 'Healthy'),
    clusterId: entry.text('clusterId', clusterId),
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

function readService(entry: YamlReader, served: Served): Service {
  const namespace = entry.text('namespace');
  const hostname = entry.text('hostname');
  const waypoint = readGateway(entry.optionalMap('waypoint'));
  const balancer = entry.optionalMap('loadBalancer');
  const key = namespacedHostname(namespace, hostname);
  const ipFamilies = entry.text('ipFamilies', '');
  const service: Service = {
    key,
    name: entry.text('name', hostname.split('.')[0]),
    namespace,
    hostname,
    vips: entry.texts('vips').map((text) => readAddress(text, entry.field('vips'))),
    cidrVips: entry.list('cidrVips').map(readBlock),
    ports: readPorts(entry.optionalMap('ports')),
    subjectAltNames: entry.texts('subjectAltNames').filter(isSpiffeId),
    ...(waypoint ? { waypoint } : {}),
    weightedWaypoints: entry.list('weightedWaypoints').map(readWeighted),
    ...(balancer ? { loadBalancing: readBalancer(balancer) } : {}),
    ...(ipFamilies === '' ? {} : { ipFamilies: entry.oneOf('ipFamilies', ['IPv4', 'IPv6', 'Dual'], 'Dual') }),
    canonical: entry.flag('canonical'),
    visibility: entry.oneOf('visibility', ['Public', 'Namespace'], 'Public'),
  };
  for (const [uid, endpoint] of entry.entries('endpoints')) {
    const ofWorkload = served.get(workloadUid(uid)) ?? new Map<NamespacedHostname, PortMap>();
    served.set(workloadUid(uid), ofWorkload.set(key, readEndpoint(uid, endpoint)));
  }
  entry.done();
  return service;
}

/** The endpoint's ports. Whether it is healthy is asked of the workload itself, so that the two cannot disagree. */
function readEndpoint(uid: string, entry: YamlReader): PortMap {
  if (entry.text('workloadUid', uid) !== uid)
    throw new MeshError('invalid_config', `${entry.field('workloadUid')}: is not "${uid}", under which it stands`);
  const ports = readPorts(entry.optionalMap('port'));
  entry.oneOf('status', ['Healthy', 'Unhealthy'], 'Healthy');
  entry.done();
  return ports;
}

function readBlock(entry: YamlReader): CidrVip {
  const { bytes, length } = readCidr(entry.text('cidr'), entry.field('cidr'));
  const network = entry.text('network', '');
  entry.done();
  return { network, ip: ipFromBytes(bytes) ?? '', length };
}

function readWeighted(entry: YamlReader): Service['weightedWaypoints'][number] {
  const waypoint = readGateway(entry.optionalMap('destination'));
  const weight = entry.number('weight', 0);
  if (!waypoint) throw new MeshError('invalid_config', `${entry.field('destination')}: is missing`);
  entry.done();
  return { waypoint, weight };
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
