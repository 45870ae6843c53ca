// GET /config_dump: everything this ztunnel knows and does, in the shape that istioctl reads (facts: ztunnel 13). No secret is in it.
import { formatHostPort } from '#shared/address.ts';
import type { CertificateDump } from '#shared/identity/certificate-dump.ts';
import { json } from '#shared/telemetry/admin-server.ts';
import type { AdminRoute } from '#shared/telemetry/admin-server.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { PodManager } from '../inpod/pod-manager.ts';
import { dumpState } from '../state/dump.ts';
import type { MeshStore } from '../state/store.ts';
import type { DataPlane } from '../workers/data-plane.ts';
import type { ConnectionView } from '../workers/protocol.ts';

export interface ConfigDumpDeps {
  readonly config: ZtunnelConfig;
  readonly store: MeshStore;
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

export async function configDump({ config, store, pods, plane, certificates }: ConfigDumpDeps): Promise<object> {
  const { authToken, xdsHeaders, caHeaders, ...shown } = config;
  const connections = Map.groupBy(await plane.connections(), ({ pod }) => pod);
  return {
    ...dumpState(store),
    staticConfig: {},
    version: { version: config.version, runtime: `node ${process.versions.node}` },
    config: {
      ...shown,
      authToken: authToken === undefined ? undefined : '(set)',
      // They may carry credentials.
      xdsHeaders: Object.keys(xdsHeaders),
      caHeaders: Object.keys(caHeaders),
    },
    dataPlane: { backend: plane.backend, workers: plane.workers },
    certificates: certificates(),
    workloadState: Object.fromEntries(
      pods
        .list()
        .map(({ uid, who, state }) => [uid, { state, connections: dumpConnections(connections.get(uid) ?? []), info: who }]),
    ),
  };
}

function dumpConnections(connections: readonly ConnectionView[]): { inbound: object[]; outbound: object[] } {
  const { inbound = [], outbound = [] } = Object.groupBy(connections, ({ direction }) => direction);
  return { inbound: inbound.map(dumpConnection), outbound: outbound.map(dumpConnection) };
}

function dumpConnection({ source, originalDestination, actualDestination, protocol }: ConnectionView): object {
  return { src: formatHostPort(source), originalDst: originalDestination, actualDst: actualDestination, protocol };
}
