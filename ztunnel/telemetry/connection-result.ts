// The one end of a connection: whatever happened to it, one log line and one count come out of here.
import { formatHostPort } from '#shared/address.ts';
import type { HostPort } from '#shared/address.ts';
import type { Clock } from '#shared/clock.ts';
import type { MeshError } from '#shared/errors.ts';
import type { Meter } from '#shared/hbone/relay.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { Log, LogFields } from '#shared/telemetry/log.ts';
import type { TrafficCells, TrafficLabels, TrafficMetrics } from './traffic-metrics.ts';

export interface ConnectionFacts extends TrafficLabels {
  /** Where the connection came from, and where this side sends it. */
  readonly from: HostPort;
  readonly to: HostPort;
  /** The authority of the tunnel, when there is one. */
  readonly hboneAddress: HostPort | string | undefined;
}

export type Direction = 'inbound' | 'outbound';

/** Who met in a handshake, as far as it went. */
export interface HandshakeEnds {
  own?: SpiffeId;
  /** What the peer's verified certificate says. */
  peer?: string;
}

/** What a relay counts: `sent` from the client to the server, `received` the other way. */
export interface ByteCounts {
  readonly sent: number;
  readonly received: number;
}

/** A connection that is open, as it is handed to another process: plain values. */
export interface OpenResult {
  readonly facts: ConnectionFacts;
  /** Milliseconds since it was accepted. */
  readonly age: number;
  readonly carried: ByteCounts;
}

/** What counts bytes as they pass. */
export interface Carried extends ByteCounts {
  /** From now on adds to these too, and first what it counted before. */
  countInto(sent: Meter, received: Meter): void;
}

const NO_BYTES: ByteCounts = { sent: 0, received: 0 };

/** Makes connection results; one per process. */
export class ConnectionTelemetry {
  readonly metrics: TrafficMetrics;
  readonly log: Log;
  readonly clock: Clock;

  /** `log` is the scope `access`. */
  constructor(metrics: TrafficMetrics, log: Log, clock: Clock) {
    this.metrics = metrics;
    this.log = log;
    this.clock = clock;
  }

  /** Counts and logs the opening. `startedAt`: the monotonic time of the accept. */
  open(facts: ConnectionFacts, startedAt: number): ConnectionResult {
    const result = new ConnectionResult(this, facts, startedAt, NO_BYTES);
    result.opened();
    return result;
  }

  /** Goes on with one that was handed over: its opening was counted and told. */
  resume({ facts, age, carried }: OpenResult): ConnectionResult {
    return new ConnectionResult(this, facts, this.clock.monotonic() - age, carried);
  }

  /** For connections refused before it was known whose they are. */
  refusedEarly(from: HostPort, to: HostPort, direction: Direction, error: MeshError, ends: HandshakeEnds = {}): void {
    this.log.warn('connection failed', {
      'src.addr': formatHostPort(from),
      'src.identity': ends.peer,
      'dst.addr': formatHostPort(to),
      'dst.identity': ends.own,
      direction,
      error: error.message,
    });
  }
}

export class ConnectionResult {
  readonly #telemetry: ConnectionTelemetry;
  readonly #facts: ConnectionFacts;
  readonly #cells: TrafficCells;
  /** Monotonic, and whole: a fraction would be an object of its own. */
  readonly #startedAt: number;
  #counts = NO_BYTES;
  /** Carried before it was handed over to this process. */
  readonly #before: ByteCounts;
  #ended = false;

  /** `before`: carried by others. */
  constructor(telemetry: ConnectionTelemetry, facts: ConnectionFacts, startedAt: number, before: ByteCounts) {
    this.#telemetry = telemetry;
    this.#facts = facts;
    this.#cells = telemetry.metrics.cells(facts);
    this.#startedAt = Math.floor(startedAt);
    this.#before = before;
    telemetry.metrics.open[facts.reporter].add(1);
  }

  /** Counts and tells that it is new. */
  opened(): void {
    const { log } = this.#telemetry;
    this.#cells.opened();
    if (log.enabled('debug')) log.debug('connection opened', this.#fields());
  }

  /** The relay that carries the connection: its bytes are counted as they pass, for whoever reads the metrics meanwhile. */
  carry(relay: Carried): void {
    this.#counts = relay;
    // The metrics' names are from the server's side.
    relay.countInto(this.#cells.received, this.#cells.sent);
  }

  /** Another process goes on with it: nothing more is counted or told here. */
  handOver(): OpenResult {
    this.#over();
    const { service, ...facts } = this.#facts;
    const named = service && { hostname: service.hostname, name: service.name, namespace: service.namespace };
    const { sent, received } = this.#totals();
    return { facts: { ...facts, service: named }, age: this.#elapsed(), carried: { sent, received } };
  }

  #over(): void {
    this.#ended = true;
    this.#telemetry.metrics.open[this.#facts.reporter].add(-1);
  }

  #totals(): ByteCounts {
    return { sent: this.#before.sent + this.#counts.sent, received: this.#before.received + this.#counts.received };
  }

  /** The end; later calls do nothing. Without an error it was in order; `draining` is told in the line but is no failure. */
  end(error?: MeshError): void {
    if (this.#ended) return;
    this.#over();
    const failed = error !== undefined && error.code !== 'draining';
    this.#cells.closed(failed ? error.flag : '-', failed);
    const { log } = this.#telemetry;
    if (!log.enabled(failed ? 'error' : 'info')) return;
    const source = this.#facts.reporter === 'source';
    const { sent, received } = this.#totals();
    const fields = this.#fields({
      bytes_sent: source ? sent : received,
      bytes_recv: source ? received : sent,
      duration: `${Math.round(this.#elapsed())}ms`,
      error: error?.message,
    });
    if (failed) log.error('connection complete', fields);
    else log.info('connection complete', fields);
  }

  #elapsed(): number {
    return this.#telemetry.clock.monotonic() - this.#startedAt;
  }

  /** Of one shape and made at once, with the `end` or without. */
  #fields(end?: { bytes_sent: number; bytes_recv: number; duration: string; error: string | undefined }): LogFields {
    const { from, to, hboneAddress, source, destination, service, reporter } = this.#facts;
    return {
      'src.addr': formatHostPort(from),
      'src.workload': source.name || undefined,
      'src.namespace': source.namespace || undefined,
      'src.identity': source.identity,
      'src.cluster': source.cluster || undefined,
      'dst.addr': formatHostPort(to),
      'dst.hbone_addr': typeof hboneAddress === 'object' ? formatHostPort(hboneAddress) : hboneAddress,
      'dst.service': service?.hostname,
      'dst.workload': destination.name || undefined,
      'dst.namespace': destination.namespace || undefined,
      'dst.identity': destination.identity,
      'dst.cluster': destination.cluster || undefined,
      direction: reporter === 'source' ? 'outbound' : 'inbound',
      bytes_sent: end?.bytes_sent,
      bytes_recv: end?.bytes_recv,
      duration: end?.duration,
      error: end?.error,
    };
  }
}
