// The few statistics that the benchmark reports.

/** The middle value, or the mean of the two middle ones; undefined of nothing. */
export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2;
}

/** The value that `share` (0 to 1) of the others do not exceed; undefined of nothing. */
export function quantile(values: readonly number[], share: number): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}

/** Field by field; a field counts the samples that have it. */
export function medians(samples: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const fields = new Set(samples.flatMap((sample) => Object.keys(sample)));
  const result: Record<string, number> = {};
  for (const field of fields) {
    const middle = median(samples.flatMap((sample) => sample[field] ?? []));
    if (middle !== undefined) result[field] = middle;
  }
  return result;
}
