// What one thread needs to serve pods, whichever thread it is.
import type { Clock } from '#shared/clock.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { BufferPool } from '#shared/http2/output.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { TrustDomains } from '#shared/identity/trust-domains.ts';
import { Specimens } from '#shared/lifecycle/specimens.ts';
import { TokenBucket } from '#shared/lifecycle/token-bucket.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { followCrlFile } from '#shared/tls/crl-file.ts';
import { Revocations } from '#shared/tls/revocation.ts';
import { faultFields } from '#shared/reactor/fault.ts';
import type { Logging } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { Places } from '#shared/lifecycle/connection-limit.ts';
import { ConnectionLimit, ENTRANCES } from '#shared/lifecycle/connection-limit.ts';
import { ConnectionTracker } from '../proxy/connection-tracker.ts';
import { HostNames } from '../proxy/host-names.ts';
import { RelayBook } from '../proxy/relay-book.ts';
import { LiveRevocations } from '../proxy/live-revocations.ts';
import type { ProxyContext } from '../proxy/pod.ts';
import { PodDirectory } from '../proxy/pod.ts';
import { Balancer } from '../state/balancer.ts';
import type { EncodedBatch } from '../state/encoded.ts';
import { entriesOf, isPinnedAt, isServiceAt } from '../state/encoded.ts';
import { Ejections } from '../state/ejections.ts';
import type { Demand } from '../state/on-demand.ts';
import type { MeshStore, StateChange } from '../state/store.ts';
import { ConnectionTelemetry } from '../telemetry/connection-result.ts';
import { TrafficMetrics } from '../telemetry/traffic-metrics.ts';
import type { ConnectionView } from './protocol.ts';

export interface ServingDeps {
  readonly config: ZtunnelConfig;
  readonly store: MeshStore;
  readonly certificates: CertificateSource;
  /** Default: the store holds all there is. */
  readonly demand?: Demand | undefined;
  readonly metrics: Metrics;
  readonly logging: Logging;
  readonly clock: Clock;
  readonly maxConnections: number;
  readonly places: Places;
  /** Where open sockets are noted, when another thread wants to know. */
  readonly ledger?: Uint8Array;
}

export interface Serving extends Disposable {
  readonly context: ProxyContext;
  connections(): ConnectionView[];
}

/** A change of what is in force for its pods asks the thread's connections again. Dispose it to close them all. */
export function createServing(deps: ServingDeps): Serving {
  const { config, store, certificates, metrics, logging, clock } = deps;
  const limit = new ConnectionLimit(
    { max: deps.maxConnections, handshakes: handshakeBucket(config, clock) },
    metrics,
    deps.places,
  );
  const log = logging.scope('proxy');
  const traffic = new TrafficMetrics(metrics);
  const lists = config.crlPath === undefined ? undefined : new Revocations();
  const revocations = lists && new LiveRevocations(lists, certificates, traffic);
  const reactor = createReactor({
    tls12: config.tls12,
    postQuantum: config.postQuantum,
    ...(lists ? { revocations: lists } : {}),
    ...(config.backend ? { backend: config.backend } : {}),
    ...(deps.ledger ? { ledger: deps.ledger } : {}),
    onShed: ({ port }) => limit.refused(ENTRANCES.get(port) ?? 'outbound', 'descriptors'),
    onFault: (error) => log.error('a fault of this process closed a connection', faultFields(error)),
  });
  const tracker = new ConnectionTracker();
  const unfollow = store.onChange((changes) => {
    if (tracker.size > 0 && changes.some((change) => concernsPolicies(change, store))) tracker.recheckAll();
  });
  const balancer = new Balancer(store, new Ejections(clock, metrics));
  const buffers = new BufferPool();
  const pods = new PodDirectory();
  revocations?.watchPools(() => Iterator.from(pods.all()).map(({ pool }) => pool));
  const crl =
    lists && config.crlPath !== undefined ? followCrlFile(config.crlPath, lists, ({ message }) => log.warn(message)) : undefined;
  const context: ProxyContext = {
    config,
    reactor,
    store,
    balancer,
    trust: new TrustDomains(config.trustDomain, config.trustDomainAliases),
    demand: deps.demand,
    certificates,
    telemetry: new ConnectionTelemetry(traffic, logging.scope('access'), clock),
    tracker,
    limit,
    revocations,
    pods,
    relays: new RelayBook(),
    names: new HostNames(clock, config),
    clock,
    log,
    specimens: new Specimens(),
    buffers,
    newPool: () =>
      new ConnectionPool(
        { reactor, certificates, clock, buffers },
        {
          maxStreams: config.poolMaxStreams,
          idleTimeout: config.poolUnusedTimeout,
          maxAge: config.maxTunnelAge,
          settings: config.http2,
          ...(revocations ? { events: { onConnectFailed: (_peer, error) => revocations.handshakeFailed('source', error) } } : {}),
        },
      ),
  };
  return {
    context,
    connections: () => Array.from(tracker.all(), viewOf),
    [Symbol.dispose]() {
      unfollow();
      balancer[Symbol.dispose]();
      reactor.close();
      crl?.[Symbol.dispose]();
    },
  };
}

/** Two seconds' worth at once: a rollout of peers comes in bursts. */
function handshakeBucket({ maxHandshakeRate: rate }: ZtunnelConfig, clock: Clock): TokenBucket | undefined {
  return rate === 0 ? undefined : new TokenBucket({ rate, burst: 2 * rate, clock });
}

function viewOf({ pod, direction, source, originalDestination, actualDestination, protocol }: ConnectionView): ConnectionView {
  return { pod, direction, source, originalDestination, actualDestination, protocol };
}

/** Whether the change can alter what is in force for a pod of this node: policies, and the lists of its own workloads. */
function concernsPolicies(change: StateChange, { workloads }: MeshStore): boolean {
  switch (change.kind) {
    case 'policy':
    case 'remove-policy':
      return true;
    case 'workload':
      return workloads.isLocal(change.workload);
    case 'encoded':
      return entriesOf(change.batch).some((entry) => isLocalWorkload(change.batch, entry));
    case 'moved':
    case 'service':
    case 'remove-address':
      return false;
  }
}

function isLocalWorkload(batch: EncodedBatch, entry: number): boolean {
  return isPinnedAt(batch, entry) && !isServiceAt(batch, entry);
}
