// Metrics of one process. prom-client keeps and renders them; counters and gauges that the data path touches are plain numbers in
// cells, looked up once per label set and read only when somebody scrapes.
import type { OpenMetricsContentType, RegistryContentType } from 'prom-client';
import Histogram from 'prom-client/lib/histogram.js';
import Registry from 'prom-client/lib/registry.js';
import type { Cell } from './cell.ts';
import { PlacedCell, PlainCell } from './cell.ts';
import { Distribution } from './distribution.ts';
import { isRoomFor, overflowLabels } from './label-sets.ts';
import type { SharedFamily, SharedNumbers } from './shared-numbers.ts';

export type { Cell } from './cell.ts';

type FamilyType = 'counter' | 'gauge';

interface FamilyOptions<L extends string> {
  readonly type: FamilyType;
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly L[];
  readonly collect?: ((family: Family<L>) => void) | undefined;
}

/** A counter or gauge with all its label sets. */
export class Family<L extends string = string> {
  readonly name: string;
  readonly type: FamilyType;
  readonly help: string;
  readonly labelNames: readonly L[];
  #cells = new Map<string, { labels: Record<string, string>; cell: Cell; sent: number }>();
  #collect: ((family: Family<L>) => void) | undefined;
  #shared: SharedFamily | undefined;

  constructor(
    { type, name, help, labelNames, collect }: FamilyOptions<L>,
    /** Where it lives, if other threads read it. */
    shared?: SharedNumbers,
  ) {
    this.type = type;
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
    this.#collect = collect;
    this.#shared = shared?.declare({ type, name, help, labelNames });
  }

  /**
   * The cell of a label set; the values are in the order of `labelNames`. It appears in the output from the first call on. Sets
   * beyond a limit share one.
   */
  cell(...values: readonly string[]): Cell {
    const key = values.length === 1 ? (values[0] ?? '') : values.join('\0');
    let entry = this.#cells.get(key);
    if (!entry) {
      if (!isRoomFor(values, this.#cells.size)) return this.cell(...overflowLabels(this.labelNames));
      const labels: Record<string, string> = {};
      for (const [index, name] of this.labelNames.entries()) labels[name] = values[index] ?? 'unknown';
      entry = { labels, cell: this.#newCell(key), sent: 0 };
      this.#cells.set(key, entry);
    }
    return entry.cell;
  }

  /** Adds to the cell of a label set, for places where speed does not matter. */
  add(amount: number, ...values: readonly string[]): void {
    this.cell(...values).add(amount);
  }

  #newCell(key: string): Cell {
    const shared = this.#shared?.take(key, 1);
    return shared ? new PlacedCell(shared.numbers, shared.at) : new PlainCell();
  }

  /** Forgets a label set, for gauges of things that are gone. Not where other threads read: they would go on to show it. */
  remove(...values: readonly string[]): void {
    this.#cells.delete(values.join('\0'));
  }

  /** Forgets every label set: a collect function that lists afresh starts with it. Not where other threads read. */
  clear(): void {
    this.#cells.clear();
  }

  /** What the cells gained since the last call, by joined label values: how counters are handed to another process. */
  takeDeltas(): FamilyValues {
    const deltas: FamilyValues = [];
    for (const [key, entry] of this.#cells) {
      if (entry.cell.value === entry.sent) continue;
      deltas.push([key, entry.cell.value - entry.sent]);
      entry.sent = entry.cell.value;
    }
    return deltas;
  }

  /** The other end of takeDeltas. */
  addDeltas(deltas: FamilyValues): void {
    for (const [key, amount] of deltas) this.cell(...key.split('\0')).add(amount);
  }

  /** What the cells hold, by joined label values. */
  values(): FamilyValues {
    return Array.from(this.#cells, ([key, { cell }]) => [key, cell.value]);
  }

  /** Lets the collect function set the cells, as before they are read. */
  collect(): void {
    this.#collect?.(this);
  }

  /** For the registry. */
  samples(): { labels: Record<string, string>; value: number }[] {
    this.collect();
    return Array.from(this.#cells.values(), ({ labels, cell }) => ({ labels, value: cell.value }));
  }
}

/** Numbers by joined label values. */
export type FamilyValues = [values: string, amount: number][];

export interface MetricsOptions {
  /**
   * Offer OpenMetrics to scrapers that ask for it (default true). It forces `_total` on every counter, so a component that keeps
   * names without it (citadel_*, pilot_*) says false.
   */
  openMetrics?: boolean;
  /** Where the numbers of a worker thread live, which its main thread reads. Collect functions are then not called: no scrape comes here. */
  shared?: SharedNumbers;
}

/** Every metric of one process, or of one worker thread. */
export class Metrics {
  #open = new Registry<OpenMetricsContentType>();
  #plain = new Registry();
  #families = new Map<string, Family>();
  #distributions = new Map<string, Distribution>();
  #offerOpen: boolean;
  #shared: SharedNumbers | undefined;
  #hooks: (() => void)[] = [];

  constructor(options: MetricsOptions = {}) {
    this.#offerOpen = options.openMetrics ?? true;
    this.#shared = options.shared;
    this.#open.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  }

  /** A counter by the name that it is read by, `_total` included. Asking again for the same name gives the same family. */
  counter<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[] = [],
    collect?: (family: Family<L>) => void,
  ): Family<L> {
    return this.#family('counter', name, help, labelNames, collect);
  }

  /** A gauge; `collect` may set its cells right before they are read. */
  gauge<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[] = [],
    collect?: (family: Family<L>) => void,
  ): Family<L> {
    return this.#family('gauge', name, help, labelNames, collect);
  }

  histogram<L extends string>(name: string, help: string, labelNames: readonly L[], buckets: readonly number[]): Histogram<L> {
    return new Histogram({
      name,
      help,
      labelNames: [...labelNames],
      buckets: [...buckets],
      registers: [this.#open, this.#plain],
    });
  }

  /** A histogram for the data path. Asking again for the same name gives the same one. */
  distribution(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]): Distribution {
    const known = this.#distributions.get(name);
    if (known) return known;
    const distribution = new Distribution(name, help, labelNames, bounds, this.#shared);
    this.#distributions.set(name, distribution);
    const view = {
      name,
      type: 'histogram',
      help,
      get: () => ({ name, type: 'histogram', help, values: distribution.samples(), aggregator: 'sum' }),
    };
    this.#open.registerMetric(view as unknown as Parameters<Registry<OpenMetricsContentType>['registerMetric']>[0]);
    this.#plain.registerMetric(view as unknown as Parameters<Registry['registerMetric']>[0]);
    return distribution;
  }

  /** Counters and gauges. */
  families(): Iterable<Family> {
    return this.#families.values();
  }

  /** Called before each exposition: takes in numbers of other threads. */
  beforeRender(hook: () => void): void {
    this.#hooks.push(hook);
  }

  /** Takes in the numbers of other threads. */
  refresh(): void {
    for (const hook of this.#hooks) hook();
  }

  /** The exposition: OpenMetrics when `accept` names it, else Prometheus text. */
  async render(accept = ''): Promise<{ type: string; body: string }> {
    this.refresh();
    const registry = this.#offerOpen && accept.includes('application/openmetrics-text') ? this.#open : this.#plain;
    return { type: registry.contentType, body: await registry.metrics() };
  }

  #family<L extends string>(
    type: FamilyType,
    name: string,
    help: string,
    labelNames: readonly L[],
    collect?: (f: Family<L>) => void,
  ): Family<L> {
    const known = this.#families.get(name);
    if (known) return known as unknown as Family<L>;
    const family = new Family({ type, name, help, labelNames, collect }, this.#shared);
    this.#families.set(name, family as unknown as Family);
    register(this.#open, name.replace(/_total$/u, ''), family as unknown as Family);
    register(this.#plain, name, family as unknown as Family);
    return family;
  }
}

/** prom-client asks a metric only for `name`, `type` and `get()` when it renders, so a family needs no copy into its own types. */
function register<T extends RegistryContentType>(registry: Registry<T>, name: string, family: Family): void {
  const view = {
    name,
    type: family.type,
    help: family.help,
    get: () => ({ name, type: family.type, help: family.help, values: family.samples(), aggregator: 'sum' }),
  };
  registry.registerMetric(view as unknown as Parameters<Registry<T>['registerMetric']>[0]);
}
