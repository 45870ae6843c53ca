// Endpoints that could not be connected to: left out for a while, that doubles with each failure in a row. What one connection learnt
// spares the next ones the wait. Bounded: beyond the limit the one ejected first is forgotten, and found out again if need be.
import type { Clock } from '#shared/clock.ts';
import type { WorkloadUid } from '#shared/ids.ts';
import type { Cell, Metrics } from '#shared/telemetry/metrics.ts';

interface Ejection {
  /** In a row. */
  readonly failures: number;
  /** Monotonic ms. */
  readonly until: number;
}

const FIRST = 1000;
const LONGEST = 60_000;
const LIMIT = 1024;

export class Ejections {
  readonly #clock: Clock;
  readonly #count: Cell;
  readonly #table = new Map<WorkloadUid, Ejection>();

  constructor(clock: Clock, metrics: Metrics) {
    this.#clock = clock;
    this.#count = metrics
      .counter('culvert_endpoint_ejections_total', 'Endpoints left out for a while because they could not be connected to', [])
      .cell();
    metrics.gauge('culvert_endpoints_ejected', 'Endpoints now left out', [], (family) => (family.cell().value = this.ejected));
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

  has(uid: WorkloadUid): boolean {
    const ejection = this.#table.get(uid);
    return ejection !== undefined && ejection.until > this.#clock.monotonic();
  }

  /** It could not be connected to. Failures of connections that were begun before it was left out tell nothing new. */
  failed(uid: WorkloadUid): void {
    if (this.has(uid)) return;
    const failures = (this.#table.get(uid)?.failures ?? 0) + 1;
    this.#table.delete(uid);
    this.#table.set(uid, { failures, until: this.#clock.monotonic() + Math.min(FIRST * 2 ** (failures - 1), LONGEST) });
    this.#count.value += 1;
    if (this.#table.size > LIMIT) this.#forgetOldest();
  }

  /** It could. */
  succeeded(uid: WorkloadUid): void {
    if (this.#table.size > 0) this.#table.delete(uid);
  }

  #forgetOldest(): void {
    for (const uid of this.#table.keys()) return void this.#table.delete(uid);
  }
}
