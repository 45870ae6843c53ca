// Histograms whose cells are plain numbers, for the data path: a label set is looked up once, an observation is a few additions.
import { isRoomFor, overflowLabels } from './label-sets.ts';

/** One label set's histogram. Keep it, and observe into it. */
export class DistributionCell {
  /** Observations by bucket, not cumulative; the last is for what is above every bound. */
  readonly counts: Float64Array;
  readonly #bounds: readonly number[];
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket += 1;
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.sum += value;
    this.count += 1;
  }
}

interface Sample {
  metricName: string;
  labels: Record<string, string | number>;
  value: number;
}

/** A histogram with all its label sets. */
export class Distribution {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly #bounds: readonly number[];
  readonly #cells = new Map<string, { labels: Record<string, string>; cell: DistributionCell }>();

  /** `bounds`: upper bounds of the buckets, rising, without infinity. */
  constructor(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]) {
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
    this.#bounds = bounds;
  }

  /** The cell of a label set; the values are in the order of `labelNames`. Sets beyond a limit share one. */
  cell(...values: readonly string[]): DistributionCell {
    const key = values.join('\0');
    let entry = this.#cells.get(key);
    if (!entry) {
      if (!isRoomFor(values, this.#cells.size)) return this.cell(...overflowLabels(this.labelNames));
      const labels = Object.fromEntries(this.labelNames.map((name, index) => [name, values[index] ?? 'unknown']));
      entry = { labels, cell: new DistributionCell(this.#bounds) };
      this.#cells.set(key, entry);
    }
    return entry.cell;
  }

  /** For the registry: cumulative buckets, sum and count of each label set. */
  samples(): Sample[] {
    const samples: Sample[] = [];
    for (const { labels, cell } of this.#cells.values()) {
      let total = 0;
      for (const [index, count] of cell.counts.entries()) {
        total += count;
        samples.push({
          metricName: `${this.name}_bucket`,
          labels: { le: this.#bounds[index] ?? '+Inf', ...labels },
          value: total,
        });
      }
      samples.push({ metricName: `${this.name}_sum`, labels, value: cell.sum });
      samples.push({ metricName: `${this.name}_count`, labels, value: cell.count });
    }
    return samples;
  }
}
