// What one thread needs to serve tunnels, whichever thread it is: its own reactor, tunnels to the pods and kept connections.
import { congestionOption } from '#shared/congestion.ts';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import { ConnectionPool as TunnelPool } from '#shared/hbone/pool.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { spiffeId } from '#shared/ids.ts';
import type { Places } from '#shared/lifecycle/connection-limit.ts';
import { ConnectionLimit } from '#shared/lifecycle/connection-limit.ts';
import type { DrainOutcome } from '#shared/lifecycle/drain.ts';
import { Drain } from '#shared/lifecycle/drain.ts';
import type { Conn, Detachable, DetachedConn, ListeningSocket, TlsConn } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { faultFields } from '#shared/reactor/fault.ts';
import type { Logging } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import { followCrlFile } from '#shared/tls/crl-file.ts';
import { Revocations } from '#shared/tls/revocation.ts';
import type { WaypointConfig } from '../config.ts';
import { createDataPath, currentChains, terminateListener } from '../data-path.ts';
import { HboneListener } from '../listener/hbone.ts';
import { serveTunnel } from '../listener/tunnel.ts';
import type { LogLines } from '../telemetry/log-lines.ts';
import type { ConfigStore } from '../xds/config-store.ts';

export interface ServingDeps {
  readonly config: WaypointConfig;
  readonly store: ConfigStore;
  readonly certificates: CertificateSource;
  readonly metrics: Metrics;
  readonly logging: Logging;
  readonly accessLog: LogLines;
  readonly places: Places;
  /** Where open sockets are noted, when another thread wants to know. */
  readonly ledger?: Uint8Array;
  /** Gives a connection to another thread, which has its place already. */
  readonly handOn?: (to: number, conn: DetachedConn) => void;
}

export interface Serving extends Disposable {
  readonly backend: 'native' | 'portable';
  /** Owns the socket. */
  listen(socket: ListeningSocket): Promise<void>;
  /** Serves what another thread accepted; owns the descriptor. */
  adopt(conn: DetachedConn): void;
  /** Serves one CONNECT of a peer that has been verified. */
  serve(tunnel: IncomingTunnel, conn: TlsConn): void;
  /** The store has changed. */
  onConfig(): void;
  /** Tells clients, as their protocols have it, that their HTTP connections end. */
  drainHttp(): void;
  /** Takes no more tunnels; resolves when the last ones have ended, or after `deadline` ms. */
  drain(deadline: number): Promise<DrainOutcome>;
}

/** Dispose it to close everything. */
export function createServing(deps: ServingDeps): Serving {
  const { config, store, certificates, metrics, logging, accessLog, places, ledger } = deps;
  const log = logging.scope('waypoint');
  const identity = spiffeId(config);
  const limit = new ConnectionLimit({ max: config.maxConnections }, metrics, places);
  const revocations = config.crlPath === undefined ? undefined : new Revocations();
  const crl =
    revocations && config.crlPath !== undefined
      ? followCrlFile(config.crlPath, revocations, ({ message }) => log.warn(message))
      : undefined;
  const reactor = createReactor({
    ...(config.backend ? { backend: config.backend } : {}),
    tls12: config.tls12,
    ...(revocations ? { revocations } : {}),
    ...(ledger ? { ledger } : {}),
    onShed: () => limit.refused('hbone', 'descriptors'),
    onFault: (error) => log.error('a fault of this process closed a connection', faultFields(error)),
  });
  const tunnels = new TunnelPool({ reactor, certificates, clock: systemClock });
  const path = createDataPath({
    store,
    reactor,
    tunnels,
    clock: systemClock,
    metrics,
    log: logging.scope('access'),
    accessLog,
    identity,
    instanceIp: config.instanceIp,
    tunnelSocket: congestionOption(config.congestion),
  });
  const chains = currentChains(store);
  const serve = (tunnel: IncomingTunnel, conn: TlsConn): void => {
    serveTunnel(tunnel, conn, chains, path.tunnels).catch((thrown: unknown) => {
      const error = MeshError.from(thrown);
      log.error('a fault of this process closed a tunnel', faultFields(error));
      tunnel.refuse(error.status);
    });
  };
  const hbone = new HboneListener({
    reactor,
    clock: systemClock,
    log,
    certificates,
    identity,
    trustDomains: [config.trustDomain],
    maxStreams: () => terminateListener(store)?.maxStreams ?? 100,
    limit,
    handOn: (conn) => handOn(conn, limit, deps.handOn),
    onTunnel: serve,
  });
  const { http, tcp } = path.tunnels;
  const drainHttp = (): void => http.all().forEach((server) => server.drain());
  return {
    backend: reactor.backend,
    listen: (socket) => hbone.listen({ address: socket.address, socket }),
    adopt(conn) {
      if (reactor.adopt) hbone.adopt(reactor.adopt(conn));
    },
    serve,
    onConfig: () => tcp.rechecks.all().forEach((recheck) => recheck.run()),
    drainHttp,
    async drain(deadline) {
      const drain = new Drain(systemClock);
      drainHttp();
      for (const server of http.all()) server.endIdle();
      using hold = drain.hold();
      void hbone.drain().then(() => hold[Symbol.dispose]());
      return await drain.start(deadline);
    },
    [Symbol.dispose]() {
      hbone.close();
      for (const server of http.all()) server.close();
      path.connections.close();
      tunnels.close();
      reactor.close();
      crl?.[Symbol.dispose]();
      accessLog.flush();
    },
  };
}

/**
 * Connections of ztunnels are few, long-lived and carry many tunnels each: one that has more of them than another thread gives the next one
 * away. Only streams that can be let go of move (native backend).
 */
function handOn(conn: Conn & Partial<Detachable>, limit: ConnectionLimit, give: ServingDeps['handOn']): boolean {
  const to = give && conn.detach ? limit.lighter() : undefined;
  if (to === undefined || !give || !conn.detach) return false;
  limit.pass(to);
  give(to, conn.detach());
  return true;
}
