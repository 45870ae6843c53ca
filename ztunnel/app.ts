// The composition of a ztunnel: builds every part in order and passes it down. main.ts gives it the environment; tests give it
// certificates and a log of their own.
import { systemClock } from '#shared/clock.ts';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { BufferPool } from '#shared/http2/output.ts';
import { CaClient } from '#shared/identity/ca-client.ts';
import { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateDump } from '#shared/identity/certificate-dump.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import type { App } from '#shared/lifecycle/run.ts';
import { closeFd, currentNetns } from '#shared/os/netns.ts';
import type { Reactor } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { processMetrics } from '#shared/telemetry/process-metrics.ts';
import { DeltaClient } from '#shared/xds/delta-client.ts';
import { xdsNode } from '#shared/xds/node.ts';
import { configDumpRoute } from './admin/config-dump.ts';
import { startServers } from './admin/servers.ts';
import { followLocalIdentities } from './certificates.ts';
import type { ZtunnelConfig } from './config.ts';
import { PodManager } from './inpod/pod-manager.ts';
import { ZdsClient } from './inpod/zds-client.ts';
import { ConnectionLimit } from './proxy/connection-limit.ts';
import { ConnectionTracker } from './proxy/connection-tracker.ts';
import type { ProxyContext } from './proxy/pod.ts';
import { PodDirectory } from './proxy/pod.ts';
import { startPodProxy } from './proxy/proxy-set.ts';
import { readStateFile } from './state/local-file.ts';
import { MeshStore } from './state/store.ts';
import { addressType, authorizationType } from './state/xds-types.ts';
import { ConnectionTelemetry } from './telemetry/connection-result.ts';
import { TrafficMetrics } from './telemetry/traffic-metrics.ts';

export interface AppDeps {
  readonly logging: Logging;
  readonly requestStop: (why: string) => void;
  readonly clock?: Clock;
  /** The limit of open descriptors. */
  readonly openFiles?: number;
  /** Instead of the CA at CA_ADDRESS. */
  readonly certificates?: CertificateSource;
}

export interface ZtunnelApp extends App {
  readonly store: MeshStore;
  readonly pods: PodManager;
  readonly metrics: Metrics;
  readonly readiness: Readiness;
  readonly ports: ZtunnelConfig['ports'];
}

/** Starts everything; resolves once the ports are bound. The CNI agent is dialled when the first full state has arrived. */
export async function buildApp(config: ZtunnelConfig, deps: AppDeps): Promise<ZtunnelApp> {
  const { logging, clock = systemClock } = deps;
  const log = logging.scope('ztunnel');
  await using cleanup = new AsyncDisposableStack();
  const metrics = new Metrics();
  cleanup.use(processMetrics(metrics));
  metrics.gauge('istio_build', 'Version of this build', ['component', 'tag']).add(1, 'ztunnel', config.version);
  const readiness = new Readiness();
  const reactor = createReactor(config.backend ? { backend: config.backend } : {});
  cleanup.defer(() => reactor.close());
  await checkCapabilities(reactor, config);

  const store = new MeshStore(config.nodeName);
  const { certificates, dump } = certificateSource(config, deps, { store, metrics, clock }, cleanup);

  const tracker = new ConnectionTracker();
  cleanup.defer(store.onChange(() => tracker.recheckAll()));
  const buffers = new BufferPool();
  const context: ProxyContext = {
    config,
    reactor,
    store,
    certificates,
    telemetry: new ConnectionTelemetry(new TrafficMetrics(metrics), logging.scope('access'), clock),
    tracker,
    limit: new ConnectionLimit(config.maxConnections || connectionsFor(deps.openFiles ?? Infinity), metrics),
    pods: new PodDirectory(),
    clock,
    log: logging.scope('proxy'),
    buffers,
    newPool: () =>
      new ConnectionPool(
        { reactor, certificates, clock, buffers },
        { maxStreams: config.poolMaxStreams, idleTimeout: config.poolUnusedTimeout, settings: config.http2 },
      ),
  };

  const start = (uid: string, who: Parameters<typeof startPodProxy>[2], netns: number) => startPodProxy(context, uid, who, netns);
  const pods = new PodManager({ start, clock, log: logging.scope('inpod'), metrics });
  const zds = new ZdsClient({ path: config.inpodUds, pods, readiness, clock, log: logging.scope('inpod'), metrics });
  cleanup.defer(() => zds.close());

  const configDump = configDumpRoute({ config, store, pods, tracker, certificates: dump });
  const servers = await startServers({ config, logging, metrics, readiness, configDump, requestStop: deps.requestStop });
  cleanup.use(servers);

  if (config.localXdsPath !== undefined) store.apply(await readStateFile(config.localXdsPath));
  const waiting = readiness.block('state manager');
  const synced =
    config.xdsAddress === '' ? Promise.resolve() : followControlPlane(config, store, { logging, metrics, clock }, cleanup);
  void synced.then(() => {
    waiting[Symbol.dispose]();
    return zds.run();
  });

  log.info('started', { node: config.nodeName, backend: reactor.backend, admin_port: servers.ports.admin });
  const held = cleanup.move();
  return {
    store,
    pods,
    metrics,
    readiness,
    ports: servers.ports,
    async stop() {
      readiness.block('shutting down');
      zds.close();
      await pods.stop(config.drainDeadline);
      await held.disposeAsync();
    },
  };
}

/** Each connection has two ends at most; some descriptors are for other uses. */
function connectionsFor(openFiles: number): number {
  return Math.max(64, Math.floor((openFiles - 256) / 2));
}

/** The namespace and mark of in-pod sockets need capabilities; without them nothing would work, so say so at once. */
async function checkCapabilities(reactor: Reactor, config: ZtunnelConfig): Promise<void> {
  const netns = currentNetns();
  try {
    const listener = await reactor.listen(
      { address: { ip: '127.0.0.1', port: 0 }, netns, mark: config.packetMark },
      () => undefined,
    );
    listener.close();
  } catch (thrown) {
    const reason = MeshError.from(thrown).message;
    throw new MeshError(
      'missing_capability',
      `cannot open marked sockets in pods: ${reason}; run with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW`,
      { cause: thrown },
    );
  } finally {
    closeFd(netns);
  }
}

interface Certificates {
  readonly certificates: CertificateSource;
  readonly dump: () => readonly CertificateDump[];
}

/** The CA's, kept ready for every identity of this node, unless others were given. */
function certificateSource(
  config: ZtunnelConfig,
  { certificates, logging }: AppDeps,
  { store, metrics, clock }: { store: MeshStore; metrics: Metrics; clock: Clock },
  cleanup: AsyncDisposableStack,
): Certificates {
  if (certificates) return { certificates, dump: () => [] };
  const { caAddress: address, caRootCa: rootCert, authToken, clusterId } = config;
  const fetcher = cleanup.use(
    new CaClient({ endpoint: { address, rootCert, authToken, clusterId }, ttl: config.secretTtl, impersonate: true }),
  );
  const cache = cleanup.use(new CertificateCache({ fetcher, clock, log: logging.scope('identity'), metrics }));
  cleanup.use(followLocalIdentities(store, cache));
  return { certificates: cache, dump: () => cache.dump() };
}

/** Follows the control plane; resolves with the first full state, and goes on. */
function followControlPlane(
  config: ZtunnelConfig,
  store: MeshStore,
  { logging, metrics, clock }: { logging: Logging; metrics: Metrics; clock: Clock },
  cleanup: AsyncDisposableStack,
): Promise<unknown> {
  const { xdsAddress: address, xdsRootCa: rootCert, authToken, clusterId, self, clusterDomain, metadata } = config;
  const log = logging.scope('xds');
  const node = xdsNode({
    kind: 'ztunnel',
    instanceIp: self.ip,
    podName: self.name,
    podNamespace: self.namespace,
    serviceAccount: self.serviceAccount,
    nodeName: config.nodeName,
    clusterId,
    clusterDomain,
    metadata,
  });
  const client = cleanup.use(
    new DeltaClient({ endpoint: { address, rootCert, authToken, clusterId }, node, log, metrics, clock }),
  );
  const addresses = client.watchAll(addressType(store, log));
  const policies = client.watchAll(authorizationType(store));
  client.start();
  return Promise.all([addresses.synced, policies.synced]);
}
