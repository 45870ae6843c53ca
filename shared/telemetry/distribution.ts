// Histograms whose cells are plain numbers, for the data path: a label set is looked up once, an observation is a few additions.
import type { Cell } from './cell.ts';
import { PlacedCell } from './cell.ts';
import { isRoomFor, overflowLabels } from './label-sets.ts';
import type { Places, SharedFamily, SharedNumbers } from './shared-numbers.ts';

/** One label set's histogram. Keep it, and observe into it. */
export class DistributionCell {
  readonly #bounds: readonly number[];
  /** Observations by bucket, not cumulative, the last for what is above every bound; then the sum. */
  readonly #numbers: Float64Array;
  readonly #at: number;

  /** `places`: for its `bounds.length + 2` numbers. */
  constructor(bounds: readonly number[], { numbers, at }: Places) {
    this.#bounds = bounds;
    this.#numbers = numbers;
    this.#at = at;
  }

  /** Observations by bucket. */
  get counts(): Float64Array {
    return this.#numbers.subarray(this.#at, this.#sumAt);
  }

  get sum(): number {
    return this.#numbers[this.#sumAt] ?? 0;
  }

  get #sumAt(): number {
    return this.#at + this.#bounds.length + 1;
  }

  /** One for each number, in their order. */
  cells(): Cell[] {
    return Array.from({ length: this.#bounds.length + 2 }, (_, offset) => new PlacedCell(this.#numbers, this.#at + offset));
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    const numbers = this.#numbers;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket += 1;
    const at = this.#at + bucket;
    numbers[at] = (numbers[at] ?? 0) + 1;
    numbers[this.#sumAt] = this.sum + value;
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
  readonly #shared: SharedFamily | undefined;
  readonly #cells = new Map<string, { labels: Record<string, string>; cell: DistributionCell }>();

  /** `bounds`: upper bounds of the buckets, rising, without infinity. `shared`: where it lives, if other threads read it. */
  constructor(name: string, help: string, labelNames: readonly string[], bounds: readonly number[], shared?: SharedNumbers) {
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
    this.#bounds = bounds;
    this.#shared = shared?.declare({ type: 'histogram', name, help, labelNames, bounds });
  }

  /** The cell of a label set; the values are in the order of `labelNames`. Sets beyond a limit share one. */
  cell(...values: readonly string[]): DistributionCell {
    const key = values.join('\0');
    let entry = this.#cells.get(key);
    if (!entry) {
      if (!isRoomFor(values, this.#cells.size)) return this.cell(...overflowLabels(this.labelNames));
      const labels = Object.fromEntries(this.labelNames.map((name, index) => [name, values[index] ?? 'unknown']));
      entry = { labels, cell: new DistributionCell(this.#bounds, this.#places(key)) };
      this.#cells.set(key, entry);
    }
    return entry.cell;
  }

  #places(key: string): Places {
    const count = this.#bounds.length + 2;
    return this.#shared?.take(key, count) ?? { numbers: new Float64Array(count), at: 0 };
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
      samples.push({ metricName: `${this.name}_count`, labels, value: total });
    }
    return samples;
  }
}
