// The composition of a ztunnel: builds every part in order and passes it down. main.ts gives it the environment; tests give it
// certificates and a log of their own.
import { systemClock } from '#shared/clock.ts';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { CaClient } from '#shared/identity/ca-client.ts';
import { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateDump } from '#shared/identity/certificate-dump.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { workloadUid } from '#shared/ids.ts';
import type { WorkloadUid } from '#shared/ids.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import type { App } from '#shared/lifecycle/run.ts';
import { closeFd, currentNetns } from '#shared/os/netns.ts';
import { checkCongestion } from '#shared/congestion.ts';
import { listenTcp } from '#shared/os/socket-factory.ts';
import type { Log, Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { processMetrics } from '#shared/telemetry/process-metrics.ts';
import { DeltaClient } from '#shared/xds/delta-client.ts';
import { xdsNode } from '#shared/xds/node.ts';
import { configDumpRoute } from './admin/config-dump.ts';
import type { Servers } from './admin/servers.ts';
import { startServers } from './admin/servers.ts';
import { certificatesOf, LocalIdentities } from './certificates.ts';
import { CertificateFeed } from '#shared/workers/certificate-feed.ts';
import type { ZtunnelConfig } from './config.ts';
import type { DnsProxyDeps } from './dns/dns-proxy.ts';
import { DnsProxy, withDns } from './dns/dns-proxy.ts';
import { OwnRevocations } from './explain/revocations.ts';
import { explainRoute, isPod } from './explain/route.ts';
import type { PodProxy, StartPod } from './inpod/pod-manager.ts';
import { PodManager } from './inpod/pod-manager.ts';
import { ZdsClient } from './inpod/zds-client.ts';
import type { HandedRelay } from './proxy/relay-book.ts';
import { watchMemory } from '#shared/lifecycle/memory-watch.ts';
import { OWN_POD, ownPod, startOwnPod } from './own-pod.ts';
import { fetchHost } from './state/fetch.ts';
import { readLocalState } from './state/local-file.ts';
import { OnDemand } from './state/on-demand.ts';
import { MeshStore } from './state/store.ts';
import type { PodIdentity } from './state/workloads.ts';
import { addressType, authorizationType } from './state/xds-types.ts';
import { TakeoverGiver } from './takeover/giver.ts';
import type { GivenPod } from './takeover/predecessor.ts';
import { meetPredecessor } from './takeover/predecessor.ts';
import { takeOver } from './takeover/take-over.ts';
import type { DataPlane } from './workers/data-plane.ts';
import { serveInProcess } from './workers/in-process.ts';
import { startWorkers } from './workers/pool.ts';
import { WorkerThreads } from '#shared/workers/threads.ts';

export interface AppDeps {
  readonly logging: Logging;
  /** An error: what must be served cannot be. */
  readonly requestStop: (why: string | Error) => void;
  readonly clock?: Clock;
  /** The limit of open descriptors. */
  readonly openFiles?: number;
  /** Instead of the CA at CA_ADDRESS. */
  readonly certificates?: CertificateSource;
  /** Takes over from the ztunnel that runs here, if one does. */
  readonly takeover?: boolean;
  /** Threads of data workers, which may be loading already. */
  readonly threads?: WorkerThreads;
  /** Ends a start that still waits. */
  readonly stopping?: AbortSignal;
}

export interface ZtunnelApp extends App {
  readonly store: MeshStore;
  readonly pods: PodManager;
  readonly metrics: Metrics;
  readonly readiness: Readiness;
  readonly ports: ZtunnelConfig['ports'];
}

/** Of the source: a bundle has it elsewhere. */
const WORKER = new URL('worker.ts', import.meta.url);

/** Starts everything; resolves once the ports are bound. The CNI agent is dialled when the first full state has arrived. */
export async function buildApp(config: ZtunnelConfig, deps: AppDeps): Promise<ZtunnelApp> {
  const { logging, clock = systemClock } = deps;
  const log = logging.scope('ztunnel');
  await using cleanup = new AsyncDisposableStack();
  const metrics = new Metrics();
  processMetrics(metrics);
  metrics.gauge('istio_build', 'Version of this build', ['component', 'tag']).add(1, 'ztunnel', config.version);
  const readiness = new Readiness();
  checkCapabilities(config);
  checkCongestion(config.congestion);
  if (deps.takeover && config.dedicated)
    throw new MeshError('invalid_config', 'PROXY_MODE=dedicated: --takeover is for the ztunnel of a node; start without it');
  const handover = { path: config.takeoverUds, build: config.version, clock, log: logging.scope('takeover') };
  const predecessor = deps.takeover ? await meetPredecessor({ ...handover, stopping: deps.stopping }) : undefined;
  if (predecessor) cleanup.use(predecessor);

  const store = new MeshStore(config.nodeName, { cluster: config.clusterId });
  const demand = config.xdsOnDemand ? new OnDemand({ clock }) : undefined;
  const { certificates, dump, feed, local } = certificateSource(config, deps, { store, metrics, clock }, cleanup);
  const { openFiles = Infinity } = deps;
  const maxConnections = config.maxConnections || connectionsFor(openFiles);
  const short = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const serving = { config, store, demand, certificates, metrics, logging, clock, maxConnections, short };
  const plane = cleanup.use(
    config.workerThreads === 0
      ? serveInProcess(serving)
      : startWorkers(
          { ...serving, feed, readiness, openFiles, threads: deps.threads ?? new WorkerThreads(WORKER) },
          config.workerThreads,
        ),
  );
  cleanup.use(watchMemory({ ...serving, maxMemory: config.maxMemory, plane, log }));

  const connections: StartPod = config.proxy
    ? async (uid, who, netns) => {
        // A control plane that sends the pods of the node unasked does not answer for one that it has sent.
        const own = podUid(config.clusterId, who);
        if (!store.workloads.get(own)) demand?.fetch(own).catch(() => undefined);
        using cleanup = new DisposableStack();
        cleanup.use(local?.serve(who));
        const proxy = await plane.start(uid, who, netns);
        const needed = cleanup.move();
        return {
          stop(deadline) {
            needed.dispose();
            return proxy.stop(deadline);
          },
        };
      }
    : () => Promise.resolve(NO_PROXY);
  const start = config.dnsProxy
    ? withDns(new DnsProxy({ config, store: dnsState(store, demand, config), metrics, logging, clock }), connections)
    : connections;
  using _dns = config.dnsProxy ? readiness.block('dns proxy') : undefined;
  const pods = new PodManager({ start, clock, log: logging.scope('inpod'), metrics });
  const source = podSource(config, { pods, readiness, clock, log: logging.scope('inpod'), metrics });
  cleanup.defer(() => source.close());

  const fileState = await readLocalState(config);
  store.apply(fileState);
  const waiting = readiness.block('state manager');
  // Its answer is on its way while workers load and ports are bound.
  const synced =
    config.xdsAddress === ''
      ? Promise.resolve()
      : followControlPlane(config, store, { logging, metrics, clock, demand }, cleanup);
  const configDump = configDumpRoute({ config, store, fileState, pods, plane, certificates: dump });
  const revocations = config.crlPath === undefined ? undefined : cleanup.use(new OwnRevocations(config.crlPath, certificates));
  const serves = (who: PodIdentity): boolean => pods.list().some((pod) => isPod(pod.who, who));
  const explain = explainRoute({ config, store, demand, revocations, serves });
  const profiles: DataPlane['profiles'] = (worker) => plane.profiles(worker);
  const { requestStop } = deps;
  const bindPorts = async (): Promise<Servers> =>
    cleanup.use(await startServers({ config, logging, metrics, readiness, configDump, explain, profiles, requestStop }));
  // Those of a ztunnel that runs are free once it has let go of them.
  const early = predecessor ? undefined : await bindPorts();

  await plane.started;
  if (predecessor) {
    const ready = synced.then(() => certificatesOf(store, certificates, clock));
    const adopt = async ({ uid, who, netns, sockets }: GivenPod): Promise<void> => {
      plane.sockets.adopt(uid, sockets);
      if (uid === OWN_POD) closeFd(netns);
      else await pods.handle({ kind: 'add', uid, who, netns });
    };
    const resume = plane.backend === 'native' ? (relay: HandedRelay) => plane.resumeRelay(relay) : undefined;
    await takeOver(predecessor, { ready, adopt, own: ownPod(config) !== undefined, metrics, resume });
  }
  const servers = early ?? (await bindPorts());
  let own: Promise<PodProxy | undefined> | undefined;
  void synced.then(() => {
    waiting[Symbol.dispose]();
    own = startOwnPod(config, plane, log);
    return source.run().catch((thrown: unknown) => requestStop(MeshError.from(thrown)));
  });
  const giver = cleanup.use(
    new TakeoverGiver({
      ...handover,
      pods,
      plane,
      own: ownPod(config),
      sockets: plane.sockets,
      metrics,
      async letGo() {
        source.close();
        plane.sockets.handOver();
        pods.handOver(config.drainDeadline);
        try {
          await servers[Symbol.asyncDispose]();
        } finally {
          requestStop('another ztunnel has taken over');
        }
      },
    }),
  );
  if (!config.dedicated) giver.listen();

  log.info('started', { node: config.nodeName, backend: plane.backend, workers: plane.workers, admin_port: servers.ports.admin });
  const held = cleanup.move();
  return {
    store,
    pods,
    metrics,
    readiness,
    ports: servers.ports,
    async stop() {
      readiness.block('shutting down');
      source.close();
      await Promise.all([pods.stop(config.drainDeadline), own?.then((proxy) => proxy?.stop(config.drainDeadline))]);
      await held.disposeAsync();
    },
  };
}

/** Where pods come from: the CNI agent, or, for a dedicated ztunnel, its configuration. */
interface PodSource {
  /** Ends with close(); rejects when what must be served cannot be. */
  run(): Promise<void>;
  close(): void;
}

function podSource(
  { dedicated, inpodUds: path }: ZtunnelConfig,
  deps: { pods: PodManager; readiness: Readiness; clock: Clock; log: Log; metrics: Metrics },
): PodSource {
  if (!dedicated) return new ZdsClient({ path, ...deps });
  const blocker = deps.readiness.block('proxy');
  return {
    async run() {
      await deps.pods.serveOwn('dedicated', dedicated);
      blocker[Symbol.dispose]();
    },
    close: () => undefined,
  };
}

/** A pod as its Address resource is called. */
function podUid(clusterId: string, { namespace, name }: PodIdentity): WorkloadUid {
  return workloadUid(`${clusterId}//Pod/${namespace}/${name}`);
}

/** The store, with names fetched first where state comes on demand. */
function dnsState(store: MeshStore, demand: OnDemand | undefined, { clusterDomain }: ZtunnelConfig): DnsProxyDeps['store'] {
  if (!demand) return store;
  return {
    services: store.services,
    workloads: store.workloads,
    waitForLocal: (pod, signal) => store.waitForLocal(pod, signal),
    // Without an answer of the control plane the name servers are asked, as for names that the mesh does not have.
    resolve: (hostname, { namespace }) => fetchHost(demand, { hostname, namespace, clusterDomain }).catch(() => undefined),
  };
}

/** ENABLE_PROXY=false: pods have DNS alone. */
const NO_PROXY: PodProxy = { stop: () => Promise.resolve() };

/** Each connection has two ends at most; some descriptors are for other uses. */
function connectionsFor(openFiles: number): number {
  return Math.max(64, Math.floor((openFiles - 256) / 2));
}

/** The namespace and mark of in-pod sockets need capabilities; without them nothing would work, so say so at once. */
function checkCapabilities({ dedicated, packetMark }: ZtunnelConfig): void {
  const mark = packetMark === undefined ? {} : { mark: packetMark };
  const netns = currentNetns();
  try {
    closeFd(listenTcp({ address: { ip: '127.0.0.1', port: 0 }, ...(dedicated ? {} : { netns }), ...mark }).fd);
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
  /** Tells nothing of certificates that were given. */
  readonly feed: CertificateFeed;
  /** Who asks for them ahead of connections. */
  readonly local?: LocalIdentities | undefined;
}

/** The CA's, kept ready for every identity of this node, unless others were given. */
function certificateSource(
  config: ZtunnelConfig,
  { certificates, logging }: AppDeps,
  { store, metrics, clock }: { store: MeshStore; metrics: Metrics; clock: Clock },
  cleanup: AsyncDisposableStack,
): Certificates {
  const feed = new CertificateFeed();
  if (certificates) return { certificates, dump: () => [], feed };
  const { caAddress: address, caRootCa: rootCert, authToken, clusterId, altCaHostname: altHostname, caHeaders: headers } = config;
  const endpoint = { address, rootCert, authToken, clusterId, altHostname, headers };
  // Without a CA nobody needs to wait for one.
  const patience = address === '' ? { patience: 0 } : {};
  const fetcher = cleanup.use(new CaClient({ endpoint, ttl: config.secretTtl, impersonate: !config.dedicated }));
  // While state is on its way, which says whose certificates are needed.
  if (address !== '') void fetcher.connect();
  const cache = cleanup.use(
    new CertificateCache({ fetcher, clock, log: logging.scope('identity'), metrics, onChange: feed.tell, ...patience }),
  );
  // The token of a dedicated ztunnel is for its own workload alone.
  const local = config.proxy && !config.dedicated ? cleanup.use(new LocalIdentities(store, cache)) : undefined;
  return { certificates: cache, dump: () => cache.dump(), feed, local };
}

/** Follows the control plane; resolves with the first full state, and goes on. */
function followControlPlane(
  config: ZtunnelConfig,
  store: MeshStore,
  { logging, metrics, clock, demand }: { logging: Logging; metrics: Metrics; clock: Clock; demand: OnDemand | undefined },
  cleanup: AsyncDisposableStack,
): Promise<unknown> {
  const { xdsAddress: address, xdsRootCa: rootCert, authToken, clusterId, self, clusterDomain, metadata } = config;
  const { altXdsHostname: altHostname, xdsHeaders: headers } = config;
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
    new DeltaClient({ endpoint: { address, rootCert, authToken, clusterId, altHostname, headers }, node, log, metrics, clock }),
  );
  const onDemand =
    demand &&
    client.watchNamed(
      addressType(store, log, (...batch) => demand.heard(...batch)),
      [],
      'on-demand',
    );
  if (onDemand) demand.use(onDemand);
  const addresses = onDemand ?? client.watchAll(addressType(store, log));
  const policies = client.watchAll(authorizationType(store));
  client.start();
  // What is asked for when it is needed is never complete.
  return onDemand ? policies.synced : Promise.all([addresses.synced, policies.synced]);
}
