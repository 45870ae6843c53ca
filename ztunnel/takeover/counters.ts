// Counters on their way from the old ztunnel to the new one, so that what a scraper sees does not go back.
import type { Family, FamilyValues, Metrics } from '#shared/telemetry/metrics.ts';

/** A counter and what it gained. */
export interface FamilyReport {
  readonly type: Family['type'];
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly values: FamilyValues;
}

/** Of the process itself, which is another one now. */
const OWN = /^(process|nodejs)_/u;
/** Characters of JSON in one message: below the limit of a packet however many bytes each takes. */
const MESSAGE_SIZE = 16 * 1024;

/** What was counted since the last call, in all threads; counted as told. */
export function takeCounters(metrics: Metrics): FamilyReport[] {
  metrics.refresh();
  const counters = Array.from(metrics.families()).filter(({ type, name }) => type === 'counter' && !OWN.test(name));
  return counters
    .map((family) => {
      const { type, name, help, labelNames } = family;
      family.collect();
      return { type, name, help, labelNames, values: family.takeDeltas() };
    })
    .filter(({ values }) => values.length > 0);
}

export function addCounters(metrics: Metrics, families: readonly FamilyReport[]): void {
  for (const { name, help, labelNames, values } of families) metrics.counter(name, help, labelNames).addDeltas(values);
}

/** The reports in pieces that each fit into a message. */
export function* pieces(families: readonly FamilyReport[]): Generator<FamilyReport> {
  for (const family of families) {
    let values: FamilyValues = [];
    let size = 0;
    for (const value of family.values) {
      const length = JSON.stringify(value).length;
      if (values.length > 0 && size + length > MESSAGE_SIZE) {
        yield { ...family, values };
        values = [];
        size = 0;
      }
      values.push(value);
      size += length;
    }
    yield { ...family, values };
  }
}
