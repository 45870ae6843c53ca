// Counters on their way from the old ztunnel to the new one, so that what a scraper sees does not go back.
import type { FamilyReport } from '#shared/telemetry/metric-report.ts';
import { takeReport } from '#shared/telemetry/metric-report.ts';
import type { FamilyValues, Metrics } from '#shared/telemetry/metrics.ts';

/** Of the process itself, which is another one now. */
const OWN = /^(process|nodejs)_/u;
/** Characters of JSON in one message: below the limit of a packet however many bytes each takes. */
const MESSAGE_SIZE = 16 * 1024;

/** What was counted since the last call, in all threads; counted as told. */
export async function takeCounters(metrics: Metrics): Promise<FamilyReport[]> {
  await metrics.refresh();
  return takeReport(metrics).filter(({ type, name, values }) => type === 'counter' && values.length > 0 && !OWN.test(name));
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
