// The waypoint put together: configuration and identity from the control plane, tunnels in, requests through, tunnels out.
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { HostPort } from '#shared/address.ts';
import { ConnectionPool as TunnelPool } from '#shared/hbone/pool.ts';
import { CaClient } from '#shared/identity/ca-client.ts';
import { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { spiffeId, type SpiffeId } from '#shared/ids.ts';
import { Drain } from '#shared/lifecycle/drain.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import type { App } from '#shared/lifecycle/run.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { followCrlFile } from '#shared/tls/crl-file.ts';
import { Revocations } from '#shared/tls/revocation.ts';
import { faultFields } from '#shared/reactor/fault.ts';
import type { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { DeltaClient } from '#shared/xds/delta-client.ts';
import { xdsNode } from '#shared/xds/node.ts';
import { type AdminPorts, startAdmin } from './admin.ts';
import type { WaypointConfig } from './config.ts';
import { createDataPath, currentChains, terminateListener } from './data-path.ts';
import { HboneListener } from './listener/hbone.ts';
import { serveTunnel } from './listener/tunnel.ts';
import type { LogLines } from './telemetry/log-lines.ts';
import { ConfigStore } from './xds/config-store.ts';
import { subscribeConfig } from './xds/subscriptions.ts';

/** What tests replace. */
export interface WaypointDeps {
  readonly logging: Logging;
  /** Where access log lines go. */
  readonly accessLog: LogLines;
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
  const shed = metrics.counter('culvert_connections_shed_total', 'Connections refused because too many were open', ['listener']);
  const revocations = new Revocations();
  const crl =
    config.crlPath === undefined ? undefined : followCrlFile(config.crlPath, revocations, ({ message }) => log.warn(message));
  const reactor = createReactor({
    ...(config.backend ? { backend: config.backend } : {}),
    tls12: config.tls12,
    ...(config.crlPath === undefined ? {} : { revocations }),
    onShed: () => shed.add(1, 'hbone'),
    onFault: (error) => log.error('a fault of this process closed a connection', faultFields(error)),
  });
  const identity = spiffeId(config);
  const certificates = deps.certificates ?? ownCertificates(config, logging, metrics);
  const store = new ConfigStore();
  const starting = readiness.block('xds');

  const tunnels = new TunnelPool({ reactor, certificates, clock: systemClock });
  const path = createDataPath({
    store,
    reactor,
    tunnels,
    clock: systemClock,
    metrics,
    log: logging.scope('access'),
    accessLog: deps.accessLog,
    identity,
    instanceIp: config.instanceIp,
  });
  const chains = currentChains(store);
  const hbone = new HboneListener({
    reactor,
    clock: systemClock,
    log,
    certificates,
    identity,
    trustDomains: [config.trustDomain],
    maxStreams: () => terminateListener(store)?.maxStreams ?? 100,
    onTunnel: (tunnel, conn) => {
      serveTunnel(tunnel, conn, chains, path.tunnels).catch((thrown: unknown) => {
        const error = MeshError.from(thrown);
        log.error('a fault of this process closed a tunnel', faultFields(error));
        tunnel.refuse(error.status);
      });
    },
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
    if (chains()) starting[Symbol.dispose]();
    for (const recheck of path.tunnels.tcp.rechecks) recheck();
  };
  subscribeConfig(client, store, onChange);
  const admin = await startAdmin({
    config,
    readiness,
    metrics,
    logging,
    store,
    certificates,
    backend: reactor.backend,
    requestStop: deps.requestStop ?? (() => undefined),
  });
  client.start();
  void awaitCertificate(certificates, identity, readiness);
  log.info('waypoint is up', { identity, xds: config.xdsAddress, backend: reactor.backend });

  return {
    ports: admin.ports,
    readiness,
    hboneAddress: () => hbone.address,
    async stop() {
      const drain = new Drain(systemClock);
      readiness.block('draining');
      const drainHttp = (): void => path.tunnels.http.forEach((server) => server.drain());
      drainHttp();
      await new Promise<void>((resolve) => setTimeout(resolve, config.minimumDrain));
      drainHttp();
      for (const server of path.tunnels.http) server.endIdle();
      using hold = drain.hold();
      void hbone.drain().then(() => hold[Symbol.dispose]());
      const outcome = await drain.start(config.drainTimeout);
      log.info('drained', { outcome });
      client.close();
      hbone.close();
      for (const server of path.tunnels.http) server.close();
      path.connections.close();
      tunnels.close();
      reactor.close();
      crl?.[Symbol.dispose]();
      deps.accessLog.flush();
      await admin.close();
      if (certificates instanceof CertificateCache) certificates[Symbol.dispose]();
    },
  };
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
