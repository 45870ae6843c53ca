// The three HTTP servers of a ztunnel: admin (this host only), metrics, and readiness.
import { quitRoute, readinessRoute, withIndex } from '#shared/telemetry/admin-routes.ts';
import type { AdminRoute } from '#shared/telemetry/admin-server.ts';
import { AdminServer, LOCALHOST, WILDCARD } from '#shared/telemetry/admin-server.ts';
import type { Logging } from '#shared/telemetry/log.ts';
import { loggingRoute } from '#shared/telemetry/log-levels.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import { metricsRoutes } from '#shared/telemetry/metrics-server.ts';
import { profileRoutes } from '#shared/telemetry/profile.ts';
import type { Readiness } from '#shared/lifecycle/readiness.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { DataPlane } from '../workers/data-plane.ts';

export interface ServersDeps {
  readonly config: ZtunnelConfig;
  readonly logging: Logging;
  readonly metrics: Metrics;
  readonly readiness: Readiness;
  readonly configDump: AdminRoute;
  readonly explain: AdminRoute;
  /** Profiles of data workers. */
  readonly profiles: DataPlane['profiles'];
  readonly requestStop: (why: string) => void;
}

export interface Servers extends AsyncDisposable {
  /** As bound: with port 0 in the configuration they are chosen by the kernel. */
  readonly ports: ZtunnelConfig['ports'];
}

/** Binds all three; rejects when a port is taken. */
export async function startServers(deps: ServersDeps): Promise<Servers> {
  const { config, logging, metrics, readiness } = deps;
  const log = logging.scope('admin');
  const routes = [
    deps.configDump,
    deps.explain,
    loggingRoute(logging.filter),
    quitRoute(deps.requestStop),
    ...profileRoutes(deps.profiles),
  ];
  await using cleanup = new AsyncDisposableStack();
  const admin = cleanup.use(new AdminServer(withIndex('ztunnel', routes), log));
  const stats = cleanup.use(new AdminServer(metricsRoutes(metrics), log));
  const ready = cleanup.use(new AdminServer([readinessRoute(readiness)], log));
  const hosts = config.ipv6 ? { local: LOCALHOST, wildcard: WILDCARD } : { local: ['127.0.0.1'], wildcard: ['0.0.0.0'] };
  await admin.listen({ port: config.ports.admin, hosts: hosts.local });
  await stats.listen({ port: config.ports.metrics, hosts: hosts.wildcard });
  await ready.listen({ port: config.ports.readiness, hosts: hosts.wildcard });
  const held = cleanup.move();
  return {
    ports: { admin: admin.port, metrics: stats.port, readiness: ready.port },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}
