// Endpoints that could not be connected to, all of a workload or one port of it: left out for a while, that doubles with each failure in a row. What one connection learnt
// spares the next ones the wait. Bounded: beyond the limit the one ejected first is forgotten, and found out again if need be.
import type { Clock, Timer } from '#shared/clock.ts';
import type { WorkloadUid } from '#shared/ids.ts';
import type { Cell, Metrics } from '#shared/telemetry/metrics.ts';

interface Ejection {
  /** In a row. */
  readonly failures: number;
  /** Monotonic ms. */
  readonly until: number;
}

/** A workload, or `UID PORT`: the names of workloads have no spaces. */
type Endpoint = WorkloadUid | `${WorkloadUid} ${number}`;

const FIRST = 1000;
const LONGEST = 60_000;
const LIMIT = 1024;

export class Ejections {
  readonly #clock: Clock;
  readonly #count: Cell;
  readonly #shown: Cell;
  /** Until the next one is let in again. */
  #timer: Timer | undefined;
  readonly #table = new Map<Endpoint, Ejection>();

  constructor(clock: Clock, metrics: Metrics) {
    this.#clock = clock;
    this.#count = metrics
      .counter('culvert_endpoint_ejections_total', 'Endpoints left out for a while because they could not be connected to', [])
      .cell();
    this.#shown = metrics.gauge('culvert_endpoints_ejected', 'Endpoints now left out').cell();
  }

  /** Whether any endpoint failed of late: if not, nobody has to ask for one. */
  get any(): boolean {
    return this.#table.size > 0;
  }

  /** How many are left out now. */
  get ejected(): number {
    const now = this.#clock.monotonic();
    return this.#table.values().reduce((count, { until }) => count + Number(until > now), 0);
  }

  has(uid: WorkloadUid, port: number): boolean {
    return this.#isOut(uid) || this.#isOut(`${uid} ${port}`);
  }

  /**
   * It could not be connected to; `port` when only that one was tried. Failures of connections that were begun before it was left out
   * tell nothing new.
   */
  failed(uid: WorkloadUid, port?: number): void {
    const endpoint = port === undefined ? uid : (`${uid} ${port}` as const);
    if (this.#isOut(endpoint)) return;
    const failures = (this.#table.get(endpoint)?.failures ?? 0) + 1;
    this.#table.delete(endpoint);
    this.#table.set(endpoint, { failures, until: this.#clock.monotonic() + Math.min(FIRST * 2 ** (failures - 1), LONGEST) });
    this.#count.add(1);
    if (this.#table.size > LIMIT) this.#forgetOldest();
    this.#show();
  }

  /** It could. */
  succeeded(uid: WorkloadUid, port: number | undefined): void {
    if (this.#table.size === 0) return;
    const known = this.#table.size;
    this.#table.delete(uid);
    if (port !== undefined) this.#table.delete(`${uid} ${port}`);
    if (this.#table.size < known) this.#show();
  }

  /** Other threads read the gauge whenever they like, so it is right at any time. */
  #show(): void {
    const now = this.#clock.monotonic();
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#shown.value = this.ejected;
    const next = this.#table.values().reduce((first, { until }) => (until > now ? Math.min(first, until) : first), Infinity);
    if (next < Infinity) this.#timer = this.#clock.after(next - now, () => this.#show());
  }

  #isOut(endpoint: Endpoint): boolean {
    const ejection = this.#table.get(endpoint);
    return ejection !== undefined && ejection.until > this.#clock.monotonic();
  }

  #forgetOldest(): void {
    for (const endpoint of this.#table.keys()) return void this.#table.delete(endpoint);
  }
}
