// The pages of operators and probes: admin on localhost, metrics, readiness.
import { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import type { Readiness } from '#shared/lifecycle/readiness.ts';
import { quitRoute, readinessRoute, withIndex } from '#shared/telemetry/admin-routes.ts';
import { AdminServer, json, LOCALHOST, WILDCARD } from '#shared/telemetry/admin-server.ts';
import type { Logging } from '#shared/telemetry/log.ts';
import { metricsRoutes } from '#shared/telemetry/metrics-server.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import { profileRoutes } from '#shared/telemetry/profile.ts';
import type { WaypointConfig } from './config.ts';
import type { DataPlane } from './workers/data-plane.ts';
import type { ConfigStore } from './xds/config-store.ts';

export interface AdminPorts {
  readonly admin: number;
  readonly metrics: number;
  readonly ready: number;
}

export interface AdminOptions {
  readonly config: WaypointConfig;
  readonly readiness: Readiness;
  readonly metrics: Metrics;
  readonly logging: Logging;
  readonly store: ConfigStore;
  readonly certificates: CertificateSource;
  readonly plane: DataPlane;
  readonly requestStop: (why: string) => void;
}

/** Binds all three before it resolves. */
export async function startAdmin(options: AdminOptions): Promise<{ ports: AdminPorts; close(): Promise<void> }> {
  const { config, readiness, metrics, logging, store, certificates, plane, requestStop } = options;
  const log = logging.scope('admin');
  const dump = {
    path: '/config_dump',
    summary: 'configuration in effect',
    handle: () =>
      json({
        config,
        dataPlane: { workers: plane.workers, backend: plane.backend },
        ...Object(store.dump()),
        certificates: certificates instanceof CertificateCache ? certificates.dump() : [],
      }),
  };
  const ready = readinessRoute(readiness);
  const admin = new AdminServer(
    withIndex('Culvert waypoint', [
      dump,
      ready,
      quitRoute(requestStop),
      ...metricsRoutes(metrics),
      ...profileRoutes((worker) => plane.profiles(worker)),
    ]),
    log,
  );
  const metricsServer = new AdminServer(metricsRoutes(metrics), log);
  const readyServer = new AdminServer([ready], log);
  await admin.listen({ port: config.adminPort, hosts: LOCALHOST });
  await metricsServer.listen({ port: config.metricsPort, hosts: WILDCARD });
  await readyServer.listen({ port: config.readyPort, hosts: WILDCARD });
  return {
    ports: { admin: admin.port, metrics: metricsServer.port, ready: readyServer.port },
    close: async () => {
      await Promise.all([admin.close(), metricsServer.close(), readyServer.close()]);
    },
  };
}
