// Istio's TCP metrics: names and labels are a contract with dashboards and Kiali (facts: ztunnel 12).
import type { SpiffeId } from '#shared/ids.ts';
import type { Cell, Family, Metrics } from '#shared/telemetry/metrics.ts';
import type { Peer } from './peer.ts';

export type Reporter = 'source' | 'destination';

export interface ServiceName {
  readonly hostname: string;
  readonly name: string;
  readonly namespace: string;
}

export interface TrafficLabels {
  readonly reporter: Reporter;
  readonly source: Peer;
  readonly destination: Peer;
  readonly service: ServiceName | undefined;
  readonly mutualTls: boolean;
}

const PEER = [
  'workload',
  'canonical_service',
  'canonical_revision',
  'workload_namespace',
  'principal',
  'app',
  'version',
  'cluster',
  'region',
  'zone',
];

const LABELS: readonly string[] = [
  'reporter',
  ...PEER.map((name) => `source_${name}`),
  ...PEER.map((name) => `destination_${name}`),
  'destination_service',
  'destination_service_name',
  'destination_service_namespace',
  'request_protocol',
  'connection_security_policy',
  'response_flags',
];

/** The counters of one set of labels. */
export class TrafficCells {
  readonly received: Cell;
  readonly sent: Cell;
  readonly #opened: Cell;
  readonly #closedInOrder: Cell;
  #metrics: TrafficMetrics;
  #values: readonly string[];

  constructor(metrics: TrafficMetrics, values: readonly string[]) {
    this.#metrics = metrics;
    this.#values = values;
    this.received = metrics.received.cell(...values, '-');
    this.sent = metrics.sent.cell(...values, '-');
    this.#opened = metrics.opened.cell(...values, '-');
    this.#closedInOrder = metrics.closed.cell(...values, '-');
  }

  opened(): void {
    this.#opened.add(1);
  }

  /** `flags`: `-` for an orderly end. */
  closed(flags: string, failed: boolean): void {
    if (flags === '-') this.#closedInOrder.add(1);
    else this.#metrics.closed.add(1, ...this.#values, flags);
    if (failed) this.#metrics.failed.add(1, ...this.#values, flags);
  }
}

/** Cells found before, for one pair of peers. */
interface KnownCells extends Pick<TrafficLabels, 'reporter' | 'service' | 'mutualTls'> {
  readonly cells: TrafficCells;
}

/** Services that a pair talks through; of more, the first ones are looked up by their labels again. */
const KNOWN_PER_PAIR = 8;

export class TrafficMetrics {
  readonly opened: Family;
  readonly closed: Family;
  readonly failed: Family;
  readonly received: Family;
  readonly sent: Family;
  /** Handshakes refused and tunnels cut because of a revoked certificate; by reporter. */
  readonly revoked: Family;
  /** Destinations whose host name was looked up; by source and name. */
  readonly namesLookedUp: Family;
  readonly #cells = new WeakMap<Peer, WeakMap<Peer, KnownCells[]>>();
  /** Connections that are open now. */
  readonly open: Readonly<Record<Reporter, Cell>>;

  constructor(metrics: Metrics) {
    const counter = (name: string, help: string): Family => metrics.counter(name, help, LABELS);
    this.opened = counter('istio_tcp_connections_opened_total', 'The total number of TCP connections opened');
    this.closed = counter('istio_tcp_connections_closed_total', 'The total number of TCP connections closed');
    this.failed = counter('istio_tcp_connections_failed_total', 'The total number of TCP connections that ended with an error');
    this.received = counter('istio_tcp_received_bytes_total', 'The size of total bytes sent by clients');
    this.sent = counter('istio_tcp_sent_bytes_total', 'The size of total bytes sent by servers');
    this.revoked = metrics.counter(
      'istio_crl_policy_rejections_total',
      'Tunnels refused or cut because a certificate of the peer is revoked',
      ['reporter'],
    );
    this.namesLookedUp = metrics.counter(
      'istio_on_demand_dns_total',
      'Connections to workloads known by a host name alone, which was looked up',
      [...PEER.map((name) => `source_${name}`), 'hostname'],
    );
    const open = metrics.gauge('istio_tcp_sockets_open', 'Accepted connections that are now open', ['reporter']);
    this.open = { source: open.cell('source'), destination: open.cell('destination') };
  }

  lookedUp(source: Peer, hostname: string): void {
    this.namesLookedUp.add(1, ...peerValues(source, source.identity).map((value) => value || 'unknown'), hostname);
  }

  /** Joining thirty labels for each of five counters is what a connection would spend most on, so cells are kept by the peer objects. */
  cells(labels: TrafficLabels): TrafficCells {
    const { reporter, source, destination, service, mutualTls } = labels;
    const known = this.#known(source, destination);
    for (const one of known)
      if (one.service === service && one.reporter === reporter && one.mutualTls === mutualTls) return one.cells;
    const cells = this.#cellsOf(labels);
    if (known.length === KNOWN_PER_PAIR) known.shift();
    known.push({ reporter, service, mutualTls, cells });
    return cells;
  }

  #known(source: Peer, destination: Peer): KnownCells[] {
    let ofSource = this.#cells.get(source);
    if (!ofSource) this.#cells.set(source, (ofSource = new WeakMap()));
    let known = ofSource.get(destination);
    if (!known) ofSource.set(destination, (known = []));
    return known;
  }

  #cellsOf({ reporter, source, destination, service, mutualTls }: TrafficLabels): TrafficCells {
    const values = [
      reporter,
      // Who a client is counts when it was proved; a server is named by what it is known as, as in Istio.
      ...peerValues(source, source.identity),
      ...peerValues(destination, destination.identity ?? destination.principal),
      service?.hostname,
      service?.name,
      service?.namespace,
      'tcp',
      mutualTls ? 'mutual_tls' : 'unknown',
    ].map((value) => value || 'unknown');
    return new TrafficCells(this, values);
  }
}

function peerValues(peer: Peer, principal: SpiffeId | undefined): (string | undefined)[] {
  return [
    peer.workload,
    peer.canonicalName,
    peer.canonicalRevision,
    peer.namespace,
    principal,
    peer.app,
    peer.canonicalRevision,
    peer.cluster,
    peer.region,
    peer.zone,
  ];
}
