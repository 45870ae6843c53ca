// How many label sets a metric keeps. Peers choose some values (what a tunnel says of its origin, status codes), and a metric never
// forgets a set: without a limit they could fill the memory of a proxy, and of whoever scrapes it.

/** More than the pairs of workloads that meet on one node; a few megabytes. */
export const MAX_LABEL_SETS = 10_000;

/** Every label of the one set that counts what came after the limit. */
export const OVERFLOW = 'overflow';

/** Whether one more set may be kept beside `kept` others; the overflow's own always may. */
export function isRoomFor(values: readonly string[], kept: number): boolean {
  return kept < MAX_LABEL_SETS || values.every((value) => value === OVERFLOW);
}

export function overflowLabels(labelNames: readonly string[]): string[] {
  return labelNames.map(() => OVERFLOW);
}
