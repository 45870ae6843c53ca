// The numbers of worker threads (shared-numbers.ts) in the metrics of their process: what they have gained since the last look is added to
// the process's own, so that what an ended worker counted stays.
import type { Cell } from './cell.ts';
import type { Metrics } from './metrics.ts';
import type { Announcement, SeriesFamily } from './shared-numbers.ts';

interface Page {
  readonly numbers: Float64Array;
  /** What was added to the process's numbers so far. */
  readonly seen: Float64Array;
  /** The process's numbers, by place. */
  readonly cells: Cell[];
  /** Places of gauges. */
  readonly gauges: number[];
}

class Worker {
  readonly families: SeriesFamily[] = [];
  readonly pages: Page[] = [];
}

export class FollowedNumbers {
  readonly #metrics: Metrics;
  readonly #workers = new Map<number, Worker>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  /** What a worker announced, in its order. */
  hear(index: number, news: Announcement): void {
    let worker = this.#workers.get(index);
    if (!worker) this.#workers.set(index, (worker = new Worker()));
    switch (news.kind) {
      case 'family':
        worker.families.push(news.family);
        declare(this.#metrics, news.family);
        break;
      case 'page':
        worker.pages.push({ numbers: news.numbers, seen: new Float64Array(news.numbers.length), cells: [], gauges: [] });
        break;
      case 'series': {
        const family = worker.families[news.family];
        const page = worker.pages.at(-1);
        if (!family || !page) return;
        for (const [offset, cell] of cellsOf(this.#metrics, family, news.values.split('\0')).entries()) {
          page.cells[news.at + offset] = cell;
          if (family.type === 'gauge') page.gauges.push(news.at + offset);
        }
      }
    }
  }

  /** Takes in what all have counted by now. */
  read(): void {
    for (const { pages } of this.#workers.values()) pages.forEach(take);
  }

  /** The worker has ended: its counts stay, what its gauges showed is gone. */
  forget(index: number): void {
    const pages = this.#workers.get(index)?.pages ?? [];
    this.#workers.delete(index);
    for (const page of pages) {
      take(page);
      for (const at of page.gauges) page.cells[at]?.add(-(page.seen[at] ?? 0));
    }
  }
}

function take({ numbers, seen, cells }: Page): void {
  for (const [at, cell] of cells.entries()) {
    const now = numbers[at] ?? 0;
    const before = seen[at] ?? 0;
    if (now === before) continue;
    seen[at] = now;
    cell.add(now - before);
  }
}

/** Known to the process before it has numbers, so that the exposition says what it is. */
function declare(metrics: Metrics, { type, name, help, labelNames, bounds = [] }: SeriesFamily): void {
  if (type === 'histogram') metrics.distribution(name, help, labelNames, bounds);
  else metrics[type](name, help, labelNames);
}

function cellsOf(metrics: Metrics, family: SeriesFamily, values: readonly string[]): readonly Cell[] {
  const { type, name, help, labelNames, bounds = [] } = family;
  if (type === 'histogram')
    return metrics
      .distribution(name, help, labelNames, bounds)
      .cell(...values)
      .cells();
  return [metrics[type](name, help, labelNames).cell(...values)];
}
