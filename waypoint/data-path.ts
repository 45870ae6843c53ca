// From the configuration in effect to what serves a tunnel: the router, the connections to backends, metrics and the access log.
import { randomUUID } from 'node:crypto';
import type { Clock } from '#shared/clock.ts';
import { IdTable } from '#shared/collections/id-table.ts';
import type { HbonePool } from '#shared/hbone/api.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { ByteStream, Reactor, SocketOptions } from '#shared/reactor/api.ts';
import { Specimens } from '#shared/lifecycle/specimens.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import { BufferPool } from '#shared/http2/output.ts';
import { ConnectionPool } from './cluster/pool.ts';
import { connectUpstream, type UpstreamDeps } from './cluster/upstream.ts';
import { Expiry } from './expiry.ts';
import type { ExchangeDeps } from './http/exchange.ts';
import { Router } from './http/router.ts';
import type { Recheck } from './listener/tcp.ts';
import { type CurrentChains, type Drainable, type TunnelDeps } from './listener/tunnel.ts';
import { AccessLog } from './telemetry/access-log.ts';
import type { LogLines } from './telemetry/log-lines.ts';
import { TrafficMetrics } from './telemetry/metrics.ts';
import type { TrafficRecord } from './telemetry/record.ts';
import type { ConfigStore } from './xds/config-store.ts';

export interface DataPathInput {
  readonly store: ConfigStore;
  readonly reactor: Reactor;
  readonly tunnels: HbonePool;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Of what is refused before it is a request. */
  readonly log: Log;
  /** Where access log lines go. */
  readonly accessLog: LogLines;
  readonly identity: SpiffeId;
  readonly instanceIp: string;
  readonly tunnelSocket: SocketOptions;
}

export interface DataPath {
  readonly tunnels: TunnelDeps;
  /** Kept connections to backends. */
  readonly connections: ConnectionPool;
}

/** What an HTTP/1.1 writer gathers within a turn before it writes, and how many such buffers are kept: of all that write in one turn. */
const HTTP1_BUFFER_SIZE = 8192;
const HTTP1_BUFFERS = 128;

/** Everything between a tunnel that came and a connection that goes on. */
export function createDataPath(input: DataPathInput): DataPath {
  const { store, reactor, tunnels, clock, identity, instanceIp, tunnelSocket } = input;
  const defer = (task: () => void): void => reactor.defer(task);
  const expiry = new Expiry(clock);
  const specimens = new Specimens();
  const buffers = new BufferPool(HTTP1_BUFFER_SIZE, HTTP1_BUFFERS);
  const connections = new ConnectionPool({ clock, defer, expiry, buffers });
  const traffic = new TrafficMetrics(input.metrics);
  const upstream: UpstreamDeps = {
    reactor,
    tunnels,
    identity,
    instanceIp,
    tunnelSocket,
    listener: (name) => store.listener(name),
    cluster: (name) => store.cluster(name)?.config,
  };
  const accessLog = new AccessLog(input.accessLog);
  const writeLog = (record: TrafficRecord, chain: { accessLog: boolean }): void => {
    if (chain.accessLog) accessLog.write(record);
  };
  const router = new Router({
    clock,
    random: Math.random,
    specimens,
    cluster: (name) => store.cluster(name),
    connect: (cluster, endpoint, { connection, chain }) => {
      const { config } = cluster;
      const key = cluster.connectionKey(endpoint, connection.destination);
      const dial = (): Promise<ByteStream> =>
        connectUpstream(upstream, config, endpoint, { connection, identity: chain.identity });
      return connections.acquire(key, config.http2, dial);
    },
  });
  const exchange: ExchangeDeps = {
    clock,
    router,
    identity,
    routes: (name) => store.routes(name),
    requestId: randomUUID,
    record: (record, chain) => {
      traffic.request(record);
      writeLog(record, chain);
    },
  };
  const tunnelDeps: TunnelDeps = {
    clock,
    log: input.log,
    defer,
    expiry,
    buffers,
    exchange,
    http: new IdTable<Drainable>(),
    tcp: {
      clock,
      cluster: (name) => store.cluster(name),
      connect: (cluster, endpoint, context) => connectUpstream(upstream, cluster, endpoint, context),
      rechecks: new IdTable<Recheck>(),
      specimens,
      record: (record, chain) => {
        traffic.connection(record);
        writeLog(record, chain);
      },
    },
  };
  return { tunnels: tunnelDeps, connections };
}

/** The listener that ends tunnels. */
export function terminateListener(store: ConfigStore): { maxStreams: number; cluster: string } | undefined {
  for (const listener of store.listeners) if (listener.kind === 'terminate') return listener;
  return undefined;
}

/** The listener that ended tunnels are handed to: the internal one that the CONNECT route's cluster leads to. */
export function chainsListener(store: ConfigStore): ReturnType<CurrentChains> {
  const terminate = terminateListener(store);
  const endpoint = terminate && store.cluster(terminate.cluster)?.pick();
  const listener = endpoint?.address.kind === 'internal' ? store.listener(endpoint.address.listener) : undefined;
  return listener?.kind === 'chains' ? listener : undefined;
}

/** The same for who asks with every request: looked up when the configuration has changed. */
export function currentChains(store: ConfigStore): CurrentChains {
  let version = -1;
  let listener: ReturnType<CurrentChains>;
  return () => {
    if (version !== store.version) {
      version = store.version;
      listener = chainsListener(store);
    }
    return listener;
  };
}
