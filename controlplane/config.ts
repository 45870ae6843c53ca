// Configuration of the control plane, read once (docs/seams.md, Control plane).
import type { Env } from '#shared/env.ts';
import { EnvReader } from '#shared/env.ts';
import { PORT } from '#shared/ports.ts';
import { readCaConfig } from './ca/config.ts';
import type { CaConfig } from './ca/config.ts';
import type { DebounceOptions } from './serve/debounce.ts';
import type { MeshSettings } from './translate/settings.ts';

export interface ControlPlaneConfig {
  readonly objectDirs: readonly string[];
  readonly statusDir: string;
  readonly objectWriteDir: string;
  readonly stateDir: string;
  readonly listenAddress: string;
  /** `https://HOST:15012` as proxies dial it; '' when not told. */
  readonly publicAddress: string;
  readonly ports: { readonly plaintext: number; readonly tls: number; readonly monitoring: number };
  readonly settings: MeshSettings;
  readonly ca: CaConfig;
  readonly debounce: DebounceOptions;
  readonly maxStreams: number;
  readonly logLevel: string;
  readonly logFormat: 'text' | 'json';
}

/** Throws a MeshError with every fault. */
export function loadConfig(env: Env): ControlPlaneConfig {
  const read = new EnvReader(env);
  const port = (name: string, fallback: number): number => read.integer(name, fallback, { min: 0, max: 65535 });
  const config: ControlPlaneConfig = {
    objectDirs: read
      .required('OBJECT_DIRS', 'folders of Kubernetes YAML, separated by colons')
      .split(':')
      .filter((dir) => dir !== ''),
    statusDir: read.required('STATUS_DIR', 'the folder of overlays'),
    objectWriteDir: read.required('OBJECT_WRITE_DIR', 'the folder that generated objects are written to'),
    stateDir: read.required('STATE_DIR', 'the folder of the CA key and the admin socket'),
    listenAddress: read.string('LISTEN_ADDRESS', '::'),
    publicAddress: read.string('PUBLIC_ADDRESS', ''),
    ports: {
      plaintext: port('XDS_PORT', PORT.controlPlanePlaintext),
      tls: port('XDS_TLS_PORT', PORT.controlPlane),
      monitoring: port('MONITORING_PORT', PORT.controlPlaneMonitoring),
    },
    settings: {
      trustDomain: read.string('TRUST_DOMAIN', 'cluster.local'),
      clusterId: read.string('CLUSTER_ID', 'Kubernetes'),
      clusterDomain: read.string('CLUSTER_DOMAIN', 'cluster.local'),
      network: read.string('NETWORK', ''),
      rootNamespace: read.string('ROOT_NAMESPACE', 'culvert-system'),
    },
    ca: readCaConfig(read),
    debounce: { after: read.duration('PILOT_DEBOUNCE_AFTER', 100), max: read.duration('PILOT_DEBOUNCE_MAX', 10_000) },
    maxStreams: read.integer('XDS_MAX_STREAMS', 10_000, { min: 1 }),
    logLevel: read.string('LOG_LEVEL', 'info'),
    logFormat: read.oneOf('LOG_FORMAT', ['text', 'json'], 'text'),
  };
  read.done();
  return config;
}
