// GET /config_dump: everything this ztunnel knows and does, in the shape that istioctl reads (facts: ztunnel 13). No secret is in it.
import { formatHostPort } from '#shared/address.ts';
import type { CertificateDump } from '#shared/identity/certificate-dump.ts';
import { json } from '#shared/telemetry/admin-server.ts';
import type { AdminRoute } from '#shared/telemetry/admin-server.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { PodManager } from '../inpod/pod-manager.ts';
import type { ConnectionTracker, TrackedConnection } from '../proxy/connection-tracker.ts';
import { dumpState } from '../state/dump.ts';
import type { MeshStore } from '../state/store.ts';

export interface ConfigDumpDeps {
  readonly config: ZtunnelConfig;
  readonly store: MeshStore;
  readonly pods: PodManager;
  readonly tracker: ConnectionTracker;
  readonly certificates: () => readonly CertificateDump[];
}

export function configDumpRoute(deps: ConfigDumpDeps): AdminRoute {
  return {
    path: '/config_dump',
    summary: 'state, configuration, certificates and connections',
    handle: () => json(configDump(deps)),
  };
}

export function configDump({ config, store, pods, tracker, certificates }: ConfigDumpDeps): object {
  const { authToken, ...shown } = config;
  return {
    ...dumpState(store),
    staticConfig: {},
    version: { version: config.version, runtime: `node ${process.versions.node}` },
    config: { ...shown, authToken: authToken === undefined ? undefined : '(set)' },
    certificates: certificates(),
    workloadState: Object.fromEntries(
      pods.list().map(({ uid, who, state }) => [uid, { state, connections: connectionsOf(uid, tracker), info: who }]),
    ),
  };
}

function connectionsOf(uid: string, tracker: ConnectionTracker): { inbound: object[]; outbound: object[] } {
  const inbound: object[] = [];
  const outbound: object[] = [];
  for (const connection of tracker.of(uid))
    (connection.direction === 'inbound' ? inbound : outbound).push(dumpConnection(connection));
  return { inbound, outbound };
}

function dumpConnection({ source, originalDestination, actualDestination, protocol }: TrackedConnection): object {
  return { src: formatHostPort(source), originalDst: originalDestination, actualDst: actualDestination, protocol };
}
