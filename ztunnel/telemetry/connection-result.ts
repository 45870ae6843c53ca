// The one end of a connection: whatever happened to it, one log line and one count come out of here.
import { formatHostPort } from '#shared/address.ts';
import type { HostPort } from '#shared/address.ts';
import type { Clock } from '#shared/clock.ts';
import type { MeshError } from '#shared/errors.ts';
import type { Log, LogFields } from '#shared/telemetry/log.ts';
import type { TrafficCells, TrafficLabels, TrafficMetrics } from './traffic-metrics.ts';

export interface ConnectionFacts extends TrafficLabels {
  /** Where the connection came from, and where this side sends it. */
  readonly from: HostPort;
  readonly to: HostPort;
  /** The authority of the tunnel, when there is one. */
  readonly hboneAddress: string | undefined;
}

export type Direction = 'inbound' | 'outbound';

/** Makes connection results; one per process. */
export class ConnectionTelemetry {
  readonly metrics: TrafficMetrics;
  readonly #log: Log;
  readonly #clock: Clock;

  /** `log` is the scope `access`. */
  constructor(metrics: TrafficMetrics, log: Log, clock: Clock) {
    this.metrics = metrics;
    this.#log = log;
    this.#clock = clock;
  }

  /** Counts and logs the opening. */
  open(facts: ConnectionFacts): ConnectionResult {
    return new ConnectionResult(facts, this.metrics.cells(facts), this.#log, this.#clock);
  }

  /** For connections refused before it was known whose they are. */
  refusedEarly(from: HostPort, to: HostPort, direction: Direction, error: MeshError): void {
    this.#log.warn('connection failed', {
      'src.addr': formatHostPort(from),
      'dst.addr': formatHostPort(to),
      direction,
      error: error.message,
    });
  }
}

export class ConnectionResult {
  readonly #facts: ConnectionFacts;
  readonly #cells: TrafficCells;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #start: number;
  #fromClient = 0;
  #fromServer = 0;
  #ended = false;

  constructor(facts: ConnectionFacts, cells: TrafficCells, log: Log, clock: Clock) {
    this.#facts = facts;
    this.#cells = cells;
    this.#log = log;
    this.#clock = clock;
    this.#start = clock.monotonic();
    cells.opened();
    if (log.enabled('debug')) log.debug('connection opened', this.#fields());
  }

  /** Bytes that went from the client to the server. */
  fromClient(bytes: number): void {
    this.#fromClient += bytes;
    this.#cells.received.value += bytes;
  }

  /** Bytes that went from the server to the client. */
  fromServer(bytes: number): void {
    this.#fromServer += bytes;
    this.#cells.sent.value += bytes;
  }

  /** The end; later calls do nothing. Without an error it was in order; `draining` is told in the line but is no failure. */
  end(error?: MeshError): void {
    if (this.#ended) return;
    this.#ended = true;
    const failed = error !== undefined && error.code !== 'draining';
    this.#cells.closed(failed ? error.flag : '-', failed);
    if (!this.#log.enabled(failed ? 'error' : 'info')) return;
    const source = this.#facts.reporter === 'source';
    const fields = {
      ...this.#fields(),
      bytes_sent: source ? this.#fromClient : this.#fromServer,
      bytes_recv: source ? this.#fromServer : this.#fromClient,
      duration: `${Math.round(this.#clock.monotonic() - this.#start)}ms`,
      error: error?.message,
    };
    if (failed) this.#log.error('connection complete', fields);
    else this.#log.info('connection complete', fields);
  }

  #fields(): LogFields {
    const { from, to, hboneAddress, source, destination, service, reporter } = this.#facts;
    return {
      'src.addr': formatHostPort(from),
      'src.workload': source.name || undefined,
      'src.namespace': source.namespace || undefined,
      'src.identity': source.identity,
      'src.cluster': source.cluster || undefined,
      'dst.addr': formatHostPort(to),
      'dst.hbone_addr': hboneAddress,
      'dst.service': service?.hostname,
      'dst.workload': destination.name || undefined,
      'dst.namespace': destination.namespace || undefined,
      'dst.identity': destination.identity,
      'dst.cluster': destination.cluster || undefined,
      direction: reporter === 'source' ? 'outbound' : 'inbound',
    };
  }
}
