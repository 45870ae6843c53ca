// Metrics of worker threads in the exposition of their process: a worker reports when asked, the main thread adds up.
import type { Family, FamilyValues, Metrics } from './metrics.ts';

/** One family of a worker; survives structured clone. */
export interface FamilyReport {
  readonly type: Family['type'];
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  /** What a counter gained since the report before; what a gauge shows now. */
  readonly values: FamilyValues;
}

/** Of a worker's own metrics. What it returns is counted as told. */
export function takeReport(metrics: Metrics): FamilyReport[] {
  return Array.from(metrics.families(), (family) => {
    const { type, name, help, labelNames } = family;
    family.collect();
    return { type, name, help, labelNames, values: type === 'counter' ? family.takeDeltas() : family.values() };
  });
}

/** Workers' reports, merged into the metrics of the process. */
export class MetricReports {
  readonly #metrics: Metrics;
  /** The last values of each gauge by worker. */
  readonly #gauges = new Map<string, Map<number, FamilyValues>>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  merge(worker: number, report: readonly FamilyReport[]): void {
    for (const { type, name, help, labelNames, values } of report) {
      if (type === 'counter') this.#metrics.counter(name, help, labelNames).addDeltas(values);
      else this.#gauge(name, help, labelNames).set(worker, values);
    }
  }

  /** The worker has ended: its counts stay, what it held is gone. */
  forget(worker: number): void {
    for (const values of this.#gauges.values()) values.delete(worker);
  }

  /** A gauge of the process is the sum over its workers. */
  #gauge(name: string, help: string, labelNames: readonly string[]): Map<number, FamilyValues> {
    const known = this.#gauges.get(name);
    if (known) return known;
    const byWorker = new Map<number, FamilyValues>();
    this.#gauges.set(name, byWorker);
    this.#metrics.gauge(name, help, labelNames, (family) => {
      family.clear();
      for (const values of byWorker.values()) family.addDeltas(values);
    });
    return byWorker;
  }
}
