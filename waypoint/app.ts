// The waypoint put together: configuration and identity from the control plane, tunnels in, requests through, tunnels out.
import type { HostPort } from '#shared/address.ts';
import { checkCongestion } from '#shared/congestion.ts';
import { systemClock } from '#shared/clock.ts';
import { CaClient } from '#shared/identity/ca-client.ts';
import { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { spiffeId, type SpiffeId } from '#shared/ids.ts';
import { watchMemory } from '#shared/lifecycle/memory-watch.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import type { App } from '#shared/lifecycle/run.ts';
import type { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { CertificateFeed } from '#shared/workers/certificate-feed.ts';
import { WorkerThreads } from '#shared/workers/threads.ts';
import { DeltaClient } from '#shared/xds/delta-client.ts';
import { xdsNode } from '#shared/xds/node.ts';
import { type AdminPorts, startAdmin } from './admin.ts';
import type { WaypointConfig } from './config.ts';
import { currentChains } from './data-path.ts';
import type { LogLines } from './telemetry/log-lines.ts';
import { serveInProcess } from './workers/in-process.ts';
import { startWorkers } from './workers/pool.ts';
import { ConfigStore } from './xds/config-store.ts';
import { subscribeConfig } from './xds/subscriptions.ts';

/** What tests replace. */
export interface WaypointDeps {
  readonly logging: Logging;
  /** Where access log lines go. */
  readonly accessLog: LogLines;
  readonly certificates?: CertificateSource;
  /** The limit of open descriptors. */
  readonly openFiles?: number;
  /** Threads of data workers, which may be loading already. */
  readonly threads?: WorkerThreads;
  readonly requestStop?: (why: string) => void;
}

export interface WaypointApp extends App {
  readonly ports: AdminPorts;
  readonly readiness: Readiness;
  /** Where tunnels are taken. */
  hboneAddress(): HostPort;
}

const CERTIFICATE_RETRY_MS = 500;
/** Of the source: a bundle has it elsewhere. */
const WORKER = new URL('worker.ts', import.meta.url);

export async function buildApp(config: WaypointConfig, deps: WaypointDeps): Promise<WaypointApp> {
  const { logging, accessLog, openFiles = Infinity } = deps;
  const log = logging.scope('waypoint');
  checkCongestion(config.congestion);
  await using cleanup = new AsyncDisposableStack();
  const metrics = new Metrics();
  const readiness = new Readiness();
  const feed = new CertificateFeed();
  const identity = spiffeId(config);
  const certificates = deps.certificates ?? ownCertificates(config, { logging, metrics, feed });
  if (certificates instanceof CertificateCache) cleanup.use(certificates);
  const store = new ConfigStore();
  const starting = readiness.block('xds');
  const short = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const serving = { config, store, certificates, metrics, logging, accessLog, short };
  const threads = deps.threads ?? new WorkerThreads(WORKER);
  const plane = cleanup.use(
    config.workerThreads === 0
      ? serveInProcess(serving)
      : startWorkers({ ...serving, feed, readiness, clock: systemClock, openFiles, threads }, config.workerThreads),
  );
  cleanup.use(watchMemory({ maxMemory: config.maxMemory, short, plane, clock: systemClock, log }));
  const client = cleanup.use(
    new DeltaClient({
      endpoint: {
        address: config.xdsAddress,
        rootCert: config.xdsRootCert,
        authToken: config.authToken,
        clusterId: config.clusterId,
      },
      node: waypointNode(config),
      log: logging.scope('xds'),
      metrics,
    }),
  );
  const chains = currentChains(store);
  subscribeConfig(client, store, (changes) => {
    plane.onConfig(changes);
    if (chains()) starting[Symbol.dispose]();
  });
  const admin = await startAdmin({
    config,
    readiness,
    metrics,
    logging,
    store,
    certificates,
    plane,
    requestStop: deps.requestStop ?? (() => undefined),
  });
  cleanup.defer(() => admin.close());
  await plane.started;
  client.start();
  void awaitCertificate(certificates, identity, readiness);
  log.info('waypoint is up', { identity, xds: config.xdsAddress, backend: plane.backend, workers: plane.workers });
  const held = cleanup.move();
  return {
    ports: admin.ports,
    readiness,
    hboneAddress: () => plane.address,
    async stop() {
      readiness.block('draining');
      const outcome = await plane.drain();
      log.info('drained', { outcome });
      await held.disposeAsync();
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

function ownCertificates(
  config: WaypointConfig,
  { logging, metrics, feed }: { logging: Logging; metrics: Metrics; feed: CertificateFeed },
): CertificateCache {
  const endpoint = {
    address: config.caAddress,
    rootCert: config.caRootCert,
    authToken: config.authToken,
    clusterId: config.clusterId,
  };
  const fetcher = new CaClient({ endpoint, impersonate: false });
  return new CertificateCache({ fetcher, clock: systemClock, log: logging.scope('identity'), metrics, onChange: feed.tell });
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
