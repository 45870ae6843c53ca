// The waypoint put together: configuration and identity from the control plane, tunnels in, requests through, tunnels out.
import { randomUUID } from 'node:crypto';
import { systemClock } from '#shared/clock.ts';
import type { HostPort } from '#shared/address.ts';
import { ConnectionPool as TunnelPool } from '#shared/hbone/pool.ts';
import { CaClient } from '#shared/identity/ca-client.ts';
import { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { spiffeId, type SpiffeId } from '#shared/ids.ts';
import { Drain } from '#shared/lifecycle/drain.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import type { App } from '#shared/lifecycle/run.ts';
import type { Reactor } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { Logging, LogSink } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { DeltaClient } from '#shared/xds/delta-client.ts';
import { xdsNode } from '#shared/xds/node.ts';
import { type AdminPorts, startAdmin } from './admin.ts';
import { ConnectionPool } from './cluster/pool.ts';
import { connectUpstream, type UpstreamDeps, upstreamKey } from './cluster/upstream.ts';
import type { WaypointConfig } from './config.ts';
import type { ExchangeDeps } from './http/exchange.ts';
import { Router } from './http/router.ts';
import { HboneListener } from './listener/hbone.ts';
import { type CurrentChains, type Drainable, serveTunnel, type TunnelDeps } from './listener/tunnel.ts';
import { formatAccessLog } from './telemetry/access-log.ts';
import { TrafficMetrics } from './telemetry/metrics.ts';
import type { TrafficRecord } from './telemetry/record.ts';
import { ConfigStore } from './xds/config-store.ts';
import { subscribeConfig } from './xds/subscriptions.ts';

/** What tests replace. */
export interface WaypointDeps {
  readonly logging: Logging;
  /** Where access log lines go. */
  readonly accessLog: LogSink;
  readonly certificates?: CertificateSource;
  readonly requestStop?: (why: string) => void;
}

export interface WaypointApp extends App {
  readonly ports: AdminPorts;
  readonly readiness: Readiness;
  /** Where tunnels are taken; undefined until the control plane said so. */
  hboneAddress(): HostPort | undefined;
}

const CERTIFICATE_RETRY_MS = 500;

export async function buildApp(config: WaypointConfig, deps: WaypointDeps): Promise<WaypointApp> {
  const { logging } = deps;
  const log = logging.scope('waypoint');
  const metrics = new Metrics();
  const readiness = new Readiness();
  const reactor = createReactor({ backend: config.backend });
  const identity = spiffeId(config);
  const certificates = deps.certificates ?? ownCertificates(config, logging, metrics);
  const store = new ConfigStore();
  const starting = readiness.block('xds');

  const tunnels = new TunnelPool({ reactor, certificates, clock: systemClock });
  const { tunnelDeps, connections } = dataPath({ config, deps, store, reactor, tunnels, identity, metrics, logging });
  const hbone = new HboneListener({
    reactor,
    clock: systemClock,
    log,
    certificates,
    identity,
    trustDomains: [config.trustDomain],
    maxStreams: () => terminateListener(store)?.maxStreams ?? 100,
    onTunnel: (tunnel, conn) => void serveTunnel(tunnel, conn, () => chainsListener(store), tunnelDeps),
  });

  // The port is fixed, so it is bound before anything else: a taken port must stop the start.
  await hbone.listen({ ip: '::', port: config.hbonePort ?? 15_008 });
  const client = new DeltaClient({
    endpoint: {
      address: config.xdsAddress,
      rootCert: config.xdsRootCert,
      authToken: config.authToken,
      clusterId: config.clusterId,
    },
    node: waypointNode(config),
    log: logging.scope('xds'),
    metrics,
  });
  const onChange = (): void => {
    if (chainsListener(store)) starting[Symbol.dispose]();
    for (const recheck of tunnelDeps.tcp.rechecks) recheck();
  };
  subscribeConfig(client, store, onChange);
  const admin = await startAdmin({
    config,
    readiness,
    metrics,
    logging,
    store,
    certificates,
    requestStop: deps.requestStop ?? (() => undefined),
  });
  client.start();
  void awaitCertificate(certificates, identity, readiness);
  log.info('waypoint is up', { identity, xds: config.xdsAddress });

  return {
    ports: admin.ports,
    readiness,
    hboneAddress: () => hbone.address,
    async stop() {
      const drain = new Drain(systemClock);
      readiness.block('draining');
      const drainHttp = (): void => tunnelDeps.http.forEach((server) => server.drain());
      drainHttp();
      await new Promise<void>((resolve) => setTimeout(resolve, config.minimumDrain));
      drainHttp();
      using hold = drain.hold();
      void hbone.drain().then(() => hold[Symbol.dispose]());
      const outcome = await drain.start(config.drainTimeout);
      log.info('drained', { outcome });
      client.close();
      hbone.close();
      for (const server of tunnelDeps.http) server.close();
      connections.close();
      tunnels.close();
      reactor.close();
      await admin.close();
      if (certificates instanceof CertificateCache) certificates[Symbol.dispose]();
    },
  };
}

interface DataPathInput {
  readonly config: WaypointConfig;
  readonly deps: WaypointDeps;
  readonly store: ConfigStore;
  readonly reactor: Reactor;
  readonly tunnels: TunnelPool;
  readonly identity: SpiffeId;
  readonly metrics: Metrics;
  readonly logging: Logging;
}

/** Everything between a tunnel that came and a connection that goes on. */
function dataPath(input: DataPathInput): { tunnelDeps: TunnelDeps; connections: ConnectionPool } {
  const { config, deps, store, reactor, tunnels, identity, metrics, logging } = input;
  const clock = systemClock;
  const defer = (task: () => void): void => reactor.defer(task);
  const connections = new ConnectionPool({ clock, defer });
  const traffic = new TrafficMetrics(metrics);
  const upstream: UpstreamDeps = {
    reactor,
    tunnels,
    identity,
    instanceIp: config.instanceIp,
    listener: (name) => store.listener(name),
    cluster: (name) => store.cluster(name)?.config,
  };
  const writeLog = (record: TrafficRecord, chain: { accessLog: boolean }): void => {
    if (chain.accessLog) deps.accessLog.write(formatAccessLog(record));
  };
  const router = new Router({
    clock,
    random: Math.random,
    cluster: (name) => store.cluster(name),
    connect: (cluster, endpoint, { connection, chain }) => {
      const context = { connection, identity: chain.identity };
      const key = upstreamKey(cluster, endpoint, context);
      return connections.acquire(key, cluster.http2, () => connectUpstream(upstream, cluster, endpoint, context));
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
    log: logging.scope('access'),
    defer,
    exchange,
    http: new Set<Drainable>(),
    tcp: {
      clock,
      cluster: (name) => store.cluster(name),
      connect: (cluster, endpoint, context) => connectUpstream(upstream, cluster, endpoint, context),
      rechecks: new Set(),
      record: (record, chain) => {
        traffic.connection(record);
        writeLog(record, chain);
      },
    },
  };
  return { tunnelDeps, connections };
}

/** Ready is only who can prove its identity; a failed request is repeated by the cache, so asking again waits for that. */
async function awaitCertificate(certificates: CertificateSource, identity: SpiffeId, readiness: Readiness): Promise<void> {
  using _blocker = readiness.block('certificate');
  for (;;) {
    const got = await certificates.get(identity).then(
      () => true,
      () => false,
    );
    if (got) return;
    await new Promise<void>((resolve) => void systemClock.after(CERTIFICATE_RETRY_MS, resolve));
  }
}

function ownCertificates(config: WaypointConfig, logging: Logging, metrics: Metrics): CertificateCache {
  const endpoint = {
    address: config.caAddress,
    rootCert: config.caRootCert,
    authToken: config.authToken,
    clusterId: config.clusterId,
  };
  const fetcher = new CaClient({ endpoint, impersonate: false });
  return new CertificateCache({ fetcher, clock: systemClock, log: logging.scope('identity'), metrics });
}

function waypointNode(config: WaypointConfig): ReturnType<typeof xdsNode> {
  return xdsNode({
    kind: 'waypoint',
    instanceIp: config.instanceIp,
    podName: config.podName,
    podNamespace: config.namespace,
    nodeName: config.nodeName,
    serviceAccount: config.serviceAccount,
    clusterId: config.clusterId,
    clusterDomain: config.clusterDomain,
  });
}

function terminateListener(store: ConfigStore): { maxStreams: number; cluster: string } | undefined {
  for (const listener of store.listeners) if (listener.kind === 'terminate') return listener;
  return undefined;
}

/** The listener that ended tunnels are handed to: the internal one that the CONNECT route's cluster leads to. */
function chainsListener(store: ConfigStore): ReturnType<CurrentChains> {
  const terminate = terminateListener(store);
  const endpoint = terminate && store.cluster(terminate.cluster)?.pick();
  const listener = endpoint?.address.kind === 'internal' ? store.listener(endpoint.address.listener) : undefined;
  return listener?.kind === 'chains' ? listener : undefined;
}
