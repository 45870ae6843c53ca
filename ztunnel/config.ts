// The configuration of a ztunnel: Istio's environment variables with their defaults (facts: ztunnel 13), read once into one value.
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import type { JsonObject } from '@bufbuild/protobuf';
import { canonicalIp } from '#shared/address.ts';
import type { HostPort } from '#shared/address.ts';
import { congestionSetting } from '#shared/congestion.ts';
import { EnvReader } from '#shared/env.ts';
import type { Env } from '#shared/env.ts';
import { isAddress } from '#shared/grpc/address.ts';
import { DEFAULT_SETTINGS } from '#shared/http2/settings.ts';
import { defaultBudget } from '#shared/lifecycle/memory-watch.ts';
import type { LocalSettings } from '#shared/http2/settings.ts';
import { isTrustDomain } from '#shared/ids.ts';
import { PORT } from '#shared/ports.ts';
import type { Keepalive } from '#shared/reactor/api.ts';
import type { LogFormat } from '#shared/telemetry/log.ts';
import { DEFAULT_WORKERS, threadCount } from '#shared/workers/thread-count.ts';
import { istioMetadata } from '#shared/xds/node.ts';
import type { PodIdentity } from './state/workloads.ts';
import type { ProxyConfig } from './proxy-config.ts';
import { readMeshTrust, readProxyConfig } from './proxy-config.ts';

/** Where Kubernetes mounts the token of the control plane's audience. */
const DEFAULT_TOKEN = './var/run/secrets/tokens/istio-token';

/** How connections between two pods of this node travel: joined in process, or through a tunnel like all others. */
export type SameNode = 'relay' | 'hbone';

export interface ZtunnelConfig {
  /** PROXY_MODE=dedicated: the one workload that is served, in the network namespace of the process. Undefined: the pods of the node. */
  readonly dedicated: PodIdentity | undefined;
  /** Serve connections of captured pods; false: names alone. */
  readonly proxy: boolean;
  readonly nodeName: string;
  readonly network: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly trustDomain: string;
  /** Others that mean the same mesh. */
  readonly trustDomainAliases: readonly string[];
  /** The ztunnel's own pod. */
  readonly self: { readonly name: string; readonly namespace: string; readonly serviceAccount: string; readonly ip: string };
  /** '' for none: state then comes from `localXdsPath` or `localXds`, or is empty. */
  readonly xdsAddress: string;
  /** Workloads and services are asked for when they are needed, instead of all being followed. */
  readonly xdsOnDemand: boolean;
  readonly xdsRootCa: string;
  readonly caAddress: string;
  readonly caRootCa: string;
  /** A name of the server that is accepted beside the address's own. */
  readonly altXdsHostname: string | undefined;
  readonly altCaHostname: string | undefined;
  /** Further headers of requests to the control plane and to the CA. */
  readonly xdsHeaders: Readonly<Record<string, string>>;
  readonly caHeaders: Readonly<Record<string, string>>;
  /** Path or literal. */
  readonly authToken: string | undefined;
  /** A file of state, which is there beside the control plane's. */
  readonly localXdsPath: string | undefined;
  /** The same as text. */
  readonly localXds: string | undefined;
  /** Life of a certificate that is asked for, ms. */
  readonly secretTtl: number;
  readonly inpodUds: string;
  /** Where a ztunnel waits for its successor (docs/upgrade.md). */
  readonly takeoverUds: string;
  readonly inpodPortReuse: boolean;
  /** SO_MARK of every socket in pods, by which redirect rules let them pass; undefined: none. */
  readonly packetMark: number | undefined;
  /** Keep the client's address towards the application: always, never, or where the kernel lets us. */
  readonly originalSource: 'require' | 'no' | 'try';
  readonly keepalive: Keepalive | undefined;
  /** How long sent bytes may stay unacknowledged, ms; undefined: as the kernel has it. */
  readonly userTimeout: number | undefined;
  /** Of the TCP connections of tunnels, and of those with clients within the pod: `auto`, `system` (as the kernel has it) or the kernel's name of one. */
  readonly congestion: string;
  readonly ipv6: boolean;
  readonly sameNode: SameNode;
  /** Answer DNS questions in captured pods. */
  readonly dnsProxy: boolean;
  /** Where in a pod; the ip `localhost` is the loopback address of each family. */
  readonly dnsProxyAddress: HostPort;
  /** Whose service is meant where a host name is that of several, after the client's own namespace. */
  readonly preferredServiceNamespace: string | undefined;
  /** Listen for SOCKS5 on the loopback address of captured pods. */
  readonly socks5: boolean;
  readonly localhostAppTunnel: boolean;
  readonly responseBaggage: boolean;
  readonly policyInfoLogging: boolean;
  /** Connections and tunnels served at a time; 0: as many as the limit of open descriptors allows. */
  readonly maxConnections: number;
  /** Bytes of memory beyond which new connections are refused; 0: none. */
  readonly maxMemory: number;
  /** Handshakes that a thread begins in a second for peers; 0: as many as come. */
  readonly maxHandshakeRate: number;
  readonly poolMaxStreams: number;
  /** ms */
  readonly poolUnusedTimeout: number;
  /** How old an HBONE connection may become before it takes no more tunnels, ms; 0: any age. */
  readonly maxTunnelAge: number;
  readonly http2: Partial<LocalSettings>;
  /** How long connections may last after SIGTERM, ms. */
  readonly drainDeadline: number;
  readonly backend: 'native' | 'portable' | undefined;
  /** Also speak TLS 1.2 between proxies. */
  readonly tls12: boolean;
  /** Agree on keys with X25519MLKEM768 alone (COMPLIANCE_POLICY=pqc). */
  readonly postQuantum: boolean;
  /** File of certificate revocation lists; undefined: none are looked up. */
  readonly crlPath: string | undefined;
  /** Threads that serve connections; 0: the main thread does. */
  readonly workerThreads: number;
  readonly logLevel: string;
  readonly logFormat: LogFormat;
  readonly ports: { readonly admin: number; readonly metrics: number; readonly readiness: number };
  /** Sent to the control plane with the node. */
  readonly metadata: JsonObject;
  readonly version: string;
}

/** What is not asked of the environment by a whole name. */
export interface ConfigSources {
  /** What the ISTIO_META families of variables say. */
  readonly metadata?: JsonObject;
  readonly xdsHeaders?: Readonly<Record<string, string>>;
  readonly caHeaders?: Readonly<Record<string, string>>;
  /** The text of the mesh configuration file. */
  readonly mesh?: string | undefined;
  readonly fileExists?: (path: string) => boolean;
  /** Bytes that the kernel lets this process and its siblings have; undefined: no less than the machine has. */
  readonly memoryLimit?: number | undefined;
}

/** Throws `invalid_config` with every fault. */
export function loadConfig(environment: Env, sources: ConfigSources = {}): ZtunnelConfig {
  const faults: string[] = [];
  const proxy = readProxyConfig(sources.mesh, environment('PROXY_CONFIG'), faults);
  const env: Env = (name) => environment(name) ?? proxy.proxyMetadata[name];
  const read = new EnvReader(env);
  read.faults.push(...faults);
  const { fileExists = existsSync } = sources;
  const inKubernetes = read.optional('KUBERNETES_SERVICE_HOST') !== undefined;
  const xdsAddress = controlPlane(env('XDS_ADDRESS') ?? proxy.discoveryAddress, inKubernetes);
  const rootCa = './var/run/secrets/istio/root-cert.pem';
  const clusterId = read.optional('ISTIO_META_CLUSTER_ID') ?? read.string('CLUSTER_ID', 'Kubernetes');
  const backend = read.oneOf('CULVERT_BACKEND', ['auto', 'native', 'portable'], 'auto');
  const proxied = read.boolean('ENABLE_PROXY', true);
  const inpodUds = read.string('INPOD_UDS', '/var/run/ztunnel/ztunnel.sock');
  const dedicated = dedicatedWorkload(read);
  const config: ZtunnelConfig = {
    dedicated,
    proxy: proxied,
    nodeName: read.string('NODE_NAME', ''),
    network: read.string('NETWORK', ''),
    clusterId,
    clusterDomain: read.string('CLUSTER_DOMAIN', 'cluster.local'),
    ...trust(read, sources.mesh),
    self: {
      name: read.string('POD_NAME', ''),
      namespace: read.string('POD_NAMESPACE', ''),
      serviceAccount: read.string('SERVICE_ACCOUNT', ''),
      ip: read.string('INSTANCE_IP', '1.1.1.1'),
    },
    xdsAddress,
    xdsOnDemand: read.boolean('XDS_ON_DEMAND', false),
    xdsRootCa: read.string('XDS_ROOT_CA', rootCa),
    caAddress: controlPlane(env('CA_ADDRESS'), inKubernetes),
    caRootCa: read.string('CA_ROOT_CA', rootCa),
    altXdsHostname: read.optional('ALT_XDS_HOSTNAME'),
    altCaHostname: read.optional('ALT_CA_HOSTNAME'),
    xdsHeaders: sources.xdsHeaders ?? {},
    caHeaders: sources.caHeaders ?? {},
    authToken: read.optional('AUTH_TOKEN') ?? (fileExists(DEFAULT_TOKEN) ? DEFAULT_TOKEN : undefined),
    localXdsPath: read.optional('LOCAL_XDS_PATH'),
    localXds: read.optional('LOCAL_XDS'),
    secretTtl: read.duration('SECRET_TTL', 24 * 3_600_000),
    inpodUds,
    takeoverUds: read.string('TAKEOVER_UDS', join(dirname(inpodUds), 'takeover.sock')),
    inpodPortReuse: read.boolean('INPOD_PORT_REUSE', true),
    packetMark: packetMark(read, dedicated !== undefined),
    originalSource: originalSource(read),
    ...liveness(read),
    ipv6: read.boolean('IPV6_ENABLED', true),
    sameNode: read.oneOf('SAME_NODE', ['relay', 'hbone'], 'relay'),
    ...dnsProxy(read),
    socks5: read.boolean('UNSTABLE_ENABLE_SOCKS5', false),
    localhostAppTunnel: read.boolean('LOCALHOST_APP_TUNNEL', true),
    responseBaggage: read.boolean('ENABLE_RESPONSE_BAGGAGE', true),
    policyInfoLogging: read.boolean('AUTHZ_POLICY_INFO_LOGGING', false),
    maxConnections: read.integer('MAX_CONNECTIONS', 0),
    maxMemory: read.bytes('MAX_MEMORY', defaultBudget(sources.memoryLimit)),
    maxHandshakeRate: read.integer('MAX_HANDSHAKE_RATE', 1000),
    poolMaxStreams: read.integer('POOL_MAX_STREAMS_PER_CONNECTION', 200, { min: 1 }),
    poolUnusedTimeout: read.duration('POOL_UNUSED_RELEASE_TIMEOUT', 300_000),
    maxTunnelAge: read.duration('MAX_TUNNEL_AGE', 0),
    congestion: congestionSetting(read),
    http2: http2Settings(read),
    drainDeadline: drainDeadline(read),
    backend: backend === 'auto' ? undefined : backend,
    tls12: read.boolean('TLS12_ENABLED', false),
    crlPath: read.optional('CRL_PATH'),
    postQuantum: read.oneOf('COMPLIANCE_POLICY', ['pqc', 'none'], 'none') === 'pqc',
    workerThreads: proxied ? workerThreads(read, proxy, availableParallelism()) : 0,
    logLevel: read.string('RUST_LOG', 'info'),
    logFormat: read.oneOf('LOG_FORMAT', ['text', 'json', 'plain'], 'text') === 'json' ? 'json' : 'text',
    ports: {
      admin: read.integer('ADMIN_PORT', proxy.proxyAdminPort ?? 15000, { max: 65_535 }),
      metrics: read.integer('STATS_PORT', proxy.statsPort ?? 15020, { max: 65_535 }),
      readiness: read.integer('READINESS_PORT', 15021, { max: 65_535 }),
    },
    metadata: { ...proxyMetadata(proxy), ...sources.metadata },
    version: read.string('ISTIO_META_ISTIO_VERSION', 'unknown'),
  };
  if (xdsAddress === '' && config.xdsOnDemand)
    read.faults.push('XDS_ON_DEMAND is set and there is no control plane to ask: set XDS_ADDRESS, or leave it out');
  if (config.localXdsPath !== undefined && config.localXds !== undefined)
    read.faults.push('LOCAL_XDS_PATH and LOCAL_XDS are both set: give the state of this ztunnel once');
  checkSense(read, config);
  read.done();
  return config;
}

/** Whom a dedicated ztunnel serves; undefined for that of a node. */
function dedicatedWorkload(read: EnvReader): PodIdentity | undefined {
  if (read.oneOf('PROXY_MODE', ['shared', 'dedicated'], 'shared') === 'shared') return undefined;
  const text = read.string('PROXY_WORKLOAD_INFO', '');
  const [namespace, name, serviceAccount, ...more] = text.split('/');
  if (namespace && name && serviceAccount && more.length === 0) return { namespace, name, serviceAccount };
  read.faults.push(
    `PROXY_WORKLOAD_INFO="${text}": PROXY_MODE=dedicated serves one workload; give NAMESPACE/NAME/SERVICE_ACCOUNT`,
  );
  return undefined;
}

/** Without a namespace of its own to go to, a dedicated ztunnel needs no capability for a mark that nobody asked for. */
function packetMark(read: EnvReader, dedicated: boolean): number | undefined {
  if (dedicated && read.optional('PACKET_MARK') === undefined) return undefined;
  return read.integer('PACKET_MARK', 1337, { min: 1, max: 0xffff_ffff });
}

/** TRUST_DOMAIN_ALIASES, with commas between, in place of the mesh file's list. */
function trust(read: EnvReader, mesh: string | undefined): Pick<ZtunnelConfig, 'trustDomain' | 'trustDomainAliases'> {
  const file = readMeshTrust(mesh, read.faults);
  const listed = read.optional('TRUST_DOMAIN_ALIASES');
  const aliases = listed === undefined ? file.trustDomainAliases : listed.split(',').map((alias) => alias.trim());
  for (const alias of aliases)
    if (!isTrustDomain(alias)) read.faults.push(`TRUST_DOMAIN_ALIASES: "${alias}" is not a trust domain`);
  return { trustDomain: read.string('TRUST_DOMAIN', file.trustDomain ?? 'cluster.local'), trustDomainAliases: aliases };
}

/** What is well formed and cannot work. */
function checkSense(read: EnvReader, { proxy, dnsProxy, xdsAddress, caAddress }: ZtunnelConfig): void {
  if (!proxy && !dnsProxy) read.faults.push('ENABLE_PROXY and ISTIO_META_DNS_CAPTURE are both off: there is nothing to do');
  if (read.boolean('FAKE_CA', false))
    read.faults.push('FAKE_CA=true: certificates that everybody can make are for tests of Istio; give CA_ADDRESS');
  for (const [name, address] of Object.entries({ XDS_ADDRESS: xdsAddress, CA_ADDRESS: caAddress }))
    if (address !== '' && !isAddress(address))
      read.faults.push(`${name}="${address}": not an address like https://istiod.istio-system.svc:15012`);
}

/** An address set to nothing switches the client off; an unset one is istiod's usual place. */
function controlPlane(address: string | undefined, inKubernetes: boolean): string {
  if (address === undefined) return inKubernetes ? 'https://istiod.istio-system.svc:15012' : 'https://localhost:15012';
  return address === '' || address.includes('://') ? address : `https://${address}`;
}

function originalSource(read: EnvReader): ZtunnelConfig['originalSource'] {
  if (read.optional('ENABLE_ORIG_SRC') === undefined) return 'try';
  return read.boolean('ENABLE_ORIG_SRC', true) ? 'require' : 'no';
}

/** On unless switched off. The variables are those of Istio's agents, whose proxy metadata has them without the prefix. */
function dnsProxy(read: EnvReader): Pick<ZtunnelConfig, 'dnsProxy' | 'dnsProxyAddress' | 'preferredServiceNamespace'> {
  const capture = read.optional('ISTIO_META_DNS_CAPTURE') ?? read.optional('DNS_CAPTURE') ?? 'true';
  const text = read.optional('ISTIO_META_DNS_PROXY_ADDR') ?? read.optional('DNS_PROXY_ADDR') ?? `localhost:${PORT.dns}`;
  const [, bracketed, plain, digits] = /^(?:\[(.*)\]|([^:]*)):(\d{1,5})$/u.exec(text) ?? [];
  const port = Number(digits);
  const ip = plain === 'localhost' ? plain : canonicalIp(bracketed ?? plain ?? '');
  if (ip === undefined || !(port >= 1 && port <= 65_535))
    read.faults.push(`ISTIO_META_DNS_PROXY_ADDR="${text}": neither localhost:PORT nor IP:PORT`);
  return {
    dnsProxy: capture.toLowerCase() === 'true',
    dnsProxyAddress: { ip: ip ?? 'localhost', port },
    preferredServiceNamespace: read.optional('PREFERED_SERVICE_NAMESPACE'),
  };
}

/** Probes of silent connections, and what an unanswered byte may take: as long as all probes. */
function liveness(read: EnvReader): Pick<ZtunnelConfig, 'keepalive' | 'userTimeout'> {
  const time = read.duration('KEEPALIVE_TIME', 180_000);
  const interval = read.duration('KEEPALIVE_INTERVAL', 180_000);
  const retries = read.integer('KEEPALIVE_RETRIES', 9, { min: 1, max: 127 });
  return {
    keepalive: read.boolean('KEEPALIVE_ENABLED', true) ? { time, interval, retries } : undefined,
    userTimeout: read.boolean('USER_TIMEOUT_ENABLED', false) ? time + interval * retries : undefined,
  };
}

/** The stream window is what it may grow to while its reader keeps up; it starts smaller. */
function http2Settings(read: EnvReader): Partial<LocalSettings> {
  const window = { min: 65_535, max: 0x7fff_ffff };
  const maxStreamWindow = read.integer('HTTP2_STREAM_WINDOW_SIZE', DEFAULT_SETTINGS.maxStreamWindow, window);
  return {
    streamWindow: Math.min(DEFAULT_SETTINGS.streamWindow, maxStreamWindow),
    maxStreamWindow,
    connectionWindow: read.integer('HTTP2_CONNECTION_WINDOW_SIZE', DEFAULT_SETTINGS.connectionWindow, window),
    frameSize: read.integer('HTTP2_FRAME_SIZE', DEFAULT_SETTINGS.frameSize, { min: 16_384, max: 16_777_215 }),
  };
}

/** The pod's grace period less a margin to exit in order, unless told outright. */
function drainDeadline(read: EnvReader): number {
  const grace = read.integer('TERMINATION_GRACE_PERIOD_SECONDS', 0);
  const derived = grace === 0 ? 5 : Math.max(1, grace > 10 ? grace - 5 : grace - 1);
  return read.duration('CONNECTION_TERMINATION_DEADLINE', derived * 1000);
}

/** As Istio's, and `main` for none. */
function workerThreads(read: EnvReader, { concurrency }: ProxyConfig, cores: number): number {
  const text = read.optional('ZTUNNEL_WORKER_THREADS') ?? concurrency?.toString() ?? cpuLimit(read, cores) ?? DEFAULT_WORKERS;
  return threadCount(read, 'ZTUNNEL_WORKER_THREADS', text, cores);
}

/** The processor time that this container may use, in whole cores, when that is less than the machine has. */
function cpuLimit(read: EnvReader, cores: number): string | undefined {
  const whole = { min: 1 };
  const limit = read.integer('ZTUNNEL_CPU_LIMIT', read.integer('ZTUNNEL_RESOURCE_CPU_LIMIT', cores, whole), whole);
  if (limit >= cores) return undefined;
  return String(Math.max(limit, Math.min(cores, read.integer('ZTUNNEL_RESOURCE_CPU_REQUEST', 1))));
}

/** The names that have the prefix of the node's metadata, without it, and all others as they are. */
function proxyMetadata({ proxyMetadata: all }: ProxyConfig): JsonObject {
  return { ...all, ...istioMetadata(all) };
}
