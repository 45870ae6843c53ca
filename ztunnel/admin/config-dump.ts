// GET /config_dump: everything this ztunnel knows and does, in the shape that istioctl reads (facts: ztunnel 13). No secret is in it.
import { formatHostPort } from '#shared/address.ts';
import type { CertificateDump } from '#shared/identity/certificate-dump.ts';
import { json } from '#shared/telemetry/admin-server.ts';
import type { AdminRoute } from '#shared/telemetry/admin-server.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { PodManager } from '../inpod/pod-manager.ts';
import { dumpState } from '../state/dump.ts';
import { MeshStore } from '../state/store.ts';
import type { StateChange } from '../state/store.ts';
import type { DataPlane } from '../workers/data-plane.ts';
import type { ConnectionView } from '../workers/protocol.ts';
import { configView } from './config-view.ts';

export interface ConfigDumpDeps {
  readonly config: ZtunnelConfig;
  readonly store: MeshStore;
  /** What a file gave (LOCAL_XDS_PATH), beside which there may be a control plane's. */
  readonly fileState: readonly StateChange[];
  readonly pods: PodManager;
  readonly plane: DataPlane;
  readonly certificates: () => readonly CertificateDump[];
}

export function configDumpRoute(deps: ConfigDumpDeps): AdminRoute {
  return {
    path: '/config_dump',
    summary: 'state, configuration, certificates and connections',
    handle: async () => json(await configDump(deps)),
  };
}

export async function configDump(deps: ConfigDumpDeps): Promise<object> {
  const { config, store, fileState, pods, plane, certificates } = deps;
  const connections = Map.groupBy(await plane.connections(), ({ pod }) => pod);
  return {
    ...dumpState(store),
    staticConfig: dumpFile(fileState),
    version: {
      version: config.version,
      istioVersion: config.version,
      cryptoProvider: `openssl ${process.versions.openssl}`,
      runtime: `node ${process.versions.node}`,
    },
    config: configView(config),
    dataPlane: { backend: plane.backend, workers: plane.workers },
    certificates: certificates(),
    workloadState: Object.fromEntries(
      pods
        .list()
        .map(({ uid, who, state }) => [uid, { state, connections: dumpConnections(connections.get(uid) ?? []), info: who }]),
    ),
  };
}

/** In the shape of the state, without what came from elsewhere. */
function dumpFile(changes: readonly StateChange[]): object {
  const store = new MeshStore('');
  store.apply(changes);
  const { workloads, services, policies } = dumpState(store);
  return { workloads, services, policies };
}

function dumpConnections(connections: readonly ConnectionView[]): { inbound: object[]; outbound: object[] } {
  const { inbound = [], outbound = [] } = Object.groupBy(connections, ({ direction }) => direction);
  return { inbound: inbound.map(dumpConnection), outbound: outbound.map(dumpConnection) };
}

function dumpConnection({ source, originalDestination, actualDestination, protocol }: ConnectionView): object {
  return { src: formatHostPort(source), originalDst: originalDestination, actualDst: actualDestination, protocol };
}
