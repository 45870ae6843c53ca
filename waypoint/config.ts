// What a waypoint reads from its environment (docs/seams.md).
import { availableParallelism } from 'node:os';
import { congestionSetting } from '#shared/congestion.ts';
import { type Env, EnvReader } from '#shared/env.ts';
import { defaultBudget } from '#shared/lifecycle/memory-watch.ts';
import { PORT } from '#shared/ports.ts';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import { DEFAULT_WORKERS, threadCount } from '#shared/workers/thread-count.ts';

export interface WaypointConfig {
  readonly podName: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly instanceIp: string;
  readonly nodeName: string | undefined;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly trustDomain: string;
  readonly xdsAddress: string;
  readonly xdsRootCert: string;
  readonly caAddress: string;
  readonly caRootCert: string;
  readonly authToken: string | undefined;
  readonly adminPort: number;
  readonly metricsPort: number;
  readonly readyPort: number;
  /** Overrides the port that the control plane gives; undefined: as given. For tests and for several on one host. */
  readonly hbonePort: number | undefined;
  /** Milliseconds after SIGTERM in which new tunnels are still taken: those of ztunnels that have not heard yet. */
  readonly minimumDrain: number;
  /** Milliseconds that connections have to end after that. */
  readonly drainTimeout: number;
  /** Connections of ztunnels open at a time, in all threads. */
  readonly maxConnections: number;
  /** Bytes of memory above which no new ones are taken; 0: no limit. */
  readonly maxMemory: number;
  /** Threads that serve; 0: the main thread does. */
  readonly workerThreads: number;
  /** Of the TCP connections with ztunnels: `auto`, `system` (as the kernel has it) or the kernel's name of one. */
  readonly congestion: string;
  /** Undefined: the default. */
  readonly backend: Backend | undefined;
  /** Also speak TLS 1.2 between proxies. */
  readonly tls12: boolean;
  /** File of certificate revocation lists; undefined: none are looked up. */
  readonly crlPath: string | undefined;
  readonly logLevel: string;
  readonly logFormat: 'text' | 'json';
}

const ROOT_CERT = '/var/run/secrets/istio/root-cert.pem';
const WORKERS = 'WAYPOINT_WORKER_THREADS';
const TOKEN = '/var/run/secrets/tokens/istio-token';

export interface ConfigSources {
  /** Of the command line; goes before the environment. */
  readonly workers?: string | undefined;
  /** Bytes that the container may have. */
  readonly memoryLimit?: number | undefined;
}

/** Throws invalid_config with every fault. */
export function loadConfig(env: Env, { workers, memoryLimit }: ConfigSources = {}): WaypointConfig {
  const reader = new EnvReader(env);
  const port = (name: string, fallback: number): number => reader.integer(name, fallback, { max: 65_535 });
  const xdsAddress = reader.string('XDS_ADDRESS', 'https://istiod.istio-system.svc:15012');
  const xdsRootCert = reader.string('XDS_ROOT_CA', ROOT_CERT);
  const hbonePort = reader.optional('HBONE_PORT') === undefined ? undefined : port('HBONE_PORT', PORT.hbone);
  const backend = reader.oneOf('CULVERT_BACKEND', ['auto', ...BACKENDS], 'auto');
  const config: WaypointConfig = {
    podName: reader.required('POD_NAME', 'the name of this pod'),
    namespace: reader.required('POD_NAMESPACE', 'the namespace of this pod'),
    serviceAccount: reader.required('SERVICE_ACCOUNT', 'whose certificate this waypoint asks for'),
    instanceIp: reader.required('INSTANCE_IP', 'the address of this pod'),
    nodeName: reader.optional('NODE_NAME'),
    clusterId: reader.string('CLUSTER_ID', 'Kubernetes'),
    clusterDomain: reader.string('CLUSTER_DOMAIN', 'cluster.local'),
    trustDomain: reader.string('TRUST_DOMAIN', 'cluster.local'),
    xdsAddress,
    xdsRootCert,
    caAddress: reader.string('CA_ADDRESS', xdsAddress),
    caRootCert: reader.string('CA_ROOT_CA', xdsRootCert),
    authToken: reader.optional('AUTH_TOKEN') ?? (xdsAddress.startsWith('http://') ? undefined : TOKEN),
    adminPort: port('ADMIN_PORT', PORT.admin),
    metricsPort: port('METRICS_PORT', PORT.metrics),
    readyPort: port('READY_PORT', PORT.readiness),
    hbonePort,
    minimumDrain: reader.duration('MINIMUM_DRAIN_DURATION', 1000),
    drainTimeout: reader.duration('TERMINATION_GRACE_PERIOD', 5000),
    maxConnections: reader.integer('MAX_CONNECTIONS', 10_000, { min: 1 }),
    maxMemory: reader.bytes('MAX_MEMORY', defaultBudget(memoryLimit)),
    workerThreads:
      workers === undefined
        ? threadCount(reader, WORKERS, reader.string(WORKERS, DEFAULT_WORKERS), availableParallelism())
        : threadCount(reader, '--workers', workers, availableParallelism()),
    congestion: congestionSetting(reader),
    backend: backend === 'auto' ? undefined : backend,
    tls12: reader.boolean('TLS12_ENABLED', false),
    crlPath: reader.optional('CRL_PATH'),
    logLevel: reader.string('LOG_LEVEL', 'info'),
    logFormat: reader.oneOf('LOG_FORMAT', ['text', 'json'], 'text'),
  };
  reader.done();
  return config;
}
