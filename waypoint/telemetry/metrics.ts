// Istio's request and TCP metrics as a waypoint reports them (facts: waypoint A6).
import { parseSpiffeId } from '#shared/ids.ts';
import type { Baggage } from '#shared/hbone/baggage.ts';
import type { Distribution, DistributionCell } from '#shared/telemetry/distribution.ts';
import type { Cell, Family, Metrics } from '#shared/telemetry/metrics.ts';
import type { TrafficRecord } from './record.ts';

const PEER_LABELS = (side: string): string[] =>
  ['workload', 'workload_namespace', 'principal', 'app', 'version', 'canonical_service', 'canonical_revision', 'cluster'].map(
    (name) => `${side}_${name}`,
  );

const LABELS = [
  'reporter',
  ...PEER_LABELS('source'),
  ...PEER_LABELS('destination'),
  'destination_service',
  'destination_service_name',
  'destination_service_namespace',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
];
const HTTP_LABELS = [...LABELS, 'response_code', 'grpc_response_status'];
/** Milliseconds and bytes; Envoy's default buckets. */
const BUCKETS = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000,
];

/** What Istio's telemetry says of a `grpc-status` that is none. */
const INVALID_GRPC_STATUS = '-1';
const MAX_GRPC_STATUS = 16;
/** Label sets that are kept for one client: a backend chooses status codes, and what a family keeps has a limit of its own. */
const MAX_KNOWN = 64;

/** The cells of one label set, and what chose it. */
interface RequestCells {
  readonly record: Pick<TrafficRecord, 'status' | 'flag' | 'service' | 'workload' | 'upstreamIdentity'>;
  readonly grpcStatus: string;
  readonly requests: Cell;
  readonly duration: DistributionCell;
  readonly requestBytes: DistributionCell;
  readonly responseBytes: DistributionCell;
}

/** Of one client. Most requests are like the one before. */
interface ClientCells {
  last: RequestCells | undefined;
  readonly byKey: Map<string, RequestCells>;
}

export class TrafficMetrics {
  readonly #requests: Family;
  readonly #duration: Distribution;
  readonly #requestBytes: Distribution;
  readonly #responseBytes: Distribution;
  readonly #opened: Family;
  readonly #closed: Family;
  readonly #received: Family;
  readonly #sent: Family;
  /** By what a client's tunnel said of itself, then by what differs between its requests: labels are put together once. */
  readonly #cells = new WeakMap<Baggage, ClientCells>();

  constructor(metrics: Metrics) {
    const histogram = (name: string, help: string): Distribution => metrics.distribution(name, help, HTTP_LABELS, BUCKETS);
    this.#requests = metrics.counter('istio_requests_total', 'Requests', HTTP_LABELS);
    this.#duration = histogram('istio_request_duration_milliseconds', 'From the first byte in to the last byte out');
    this.#requestBytes = histogram('istio_request_bytes', 'Request bodies');
    this.#responseBytes = histogram('istio_response_bytes', 'Response bodies');
    this.#opened = metrics.counter('istio_tcp_connections_opened_total', 'TCP connections opened', LABELS);
    this.#closed = metrics.counter('istio_tcp_connections_closed_total', 'TCP connections closed', LABELS);
    this.#received = metrics.counter('istio_tcp_received_bytes_total', 'Bytes that clients sent', LABELS);
    this.#sent = metrics.counter('istio_tcp_sent_bytes_total', 'Bytes that servers sent', LABELS);
  }

  request(record: TrafficRecord): void {
    const cells = this.#cellsOf(record);
    cells.requests.value += 1;
    cells.duration.observe(record.duration);
    cells.requestBytes.observe(record.received);
    cells.responseBytes.observe(record.sent);
  }

  connection(record: TrafficRecord): void {
    const values = labelValues(record, 'tcp');
    this.#opened.add(1, ...values);
    this.#closed.add(1, ...values);
    this.#received.add(record.received, ...values);
    this.#sent.add(record.sent, ...values);
  }

  #cellsOf(record: TrafficRecord): RequestCells {
    let client = this.#cells.get(record.client);
    if (!client) this.#cells.set(record.client, (client = { last: undefined, byKey: new Map() }));
    const isGrpc = record.head?.headers.get('content-type')?.startsWith('application/grpc') ?? false;
    const grpcStatus = isGrpc ? grpcStatusLabel(record.grpcStatus) : '';
    if (client.last && sameLabels(client.last, record, grpcStatus)) return client.last;
    const { status, flag, service, workload, upstreamIdentity } = record;
    const key = `${status} ${flag} ${grpcStatus} ${service?.host} ${workload} ${upstreamIdentity}`;
    let cells = client.byKey.get(key);
    if (!cells) {
      const values = [...labelValues(record, isGrpc ? 'grpc' : 'http'), String(status), grpcStatus];
      cells = {
        record: { status, flag, service, workload, upstreamIdentity },
        grpcStatus,
        requests: this.#requests.cell(...values),
        duration: this.#duration.cell(...values),
        requestBytes: this.#requestBytes.cell(...values),
        responseBytes: this.#responseBytes.cell(...values),
      };
      // Beyond it the labels are put together anew: that costs time, and no memory.
      if (client.byKey.size < MAX_KNOWN) client.byKey.set(key, cells);
    }
    client.last = cells;
    return cells;
  }
}

/** A backend chooses the text, of any length: what is no status is one label. */
export function grpcStatusLabel(status: string | undefined): string {
  if (status === undefined) return 'unknown';
  const code = /^\d+$/u.test(status) ? Number(status) : Infinity;
  return code <= MAX_GRPC_STATUS ? String(code) : INVALID_GRPC_STATUS;
}

function sameLabels(
  { record: known, grpcStatus: knownStatus }: RequestCells,
  record: TrafficRecord,
  grpcStatus: string,
): boolean {
  return (
    known.status === record.status &&
    known.flag === record.flag &&
    known.service === record.service &&
    known.workload === record.workload &&
    known.upstreamIdentity === record.upstreamIdentity &&
    knownStatus === grpcStatus
  );
}

function labelValues(record: TrafficRecord, protocol: string): string[] {
  const { client, connection, service } = record;
  const source = parseSpiffeId(connection.peer);
  const [name, namespace, canonical, revision, cluster] = record.workload?.split(';') ?? [];
  return [
    'waypoint',
    ...known(
      client.workloadName,
      client.namespace ?? source?.namespace,
      connection.peer,
      client.service,
      client.revision,
      client.service,
    ),
    client.revision ?? 'latest',
    client.cluster ?? 'unknown',
    ...known(name, namespace, record.upstreamIdentity, canonical, revision === '' ? 'latest' : revision, canonical),
    revision === undefined || revision === '' ? 'latest' : revision,
    ...known(cluster, service?.host, service?.name, service?.namespace),
    protocol,
    record.flag,
    connection.peer === '' ? 'none' : 'mutual_tls',
  ];
}

function known(...values: (string | undefined)[]): string[] {
  return values.map((value) => (value === undefined || value === '' ? 'unknown' : value));
}
