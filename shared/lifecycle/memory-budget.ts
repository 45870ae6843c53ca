// A budget of memory that a process looks at from time to time: what is above it should be refused for a while, before the kernel kills the
// process and with it everything that was open.
import type { Clock, Timer } from '../clock.ts';

/** Shares of the budget. */
const COLLECT = 0.9;
/** New work is taken again below it: at the budget itself each small change would turn the answer. */
const EASED = 0.95;
/** Between two collections, ms: each stops the threads for some 50 ms. While memory is short there is less to do, and more to gain. */
const COLLECT_INTERVAL = { usual: 5000, short: 1000 };
/** What could come between two looks, bytes a millisecond: by it the next look is due before the room that is left is gone. */
const GROWTH = (256 << 20) / 1000;
/** Between two looks, ms. */
const LOOK = { min: 25, max: 1000 };

export interface MemoryBudgetOptions {
  /** Bytes. */
  readonly budget: number;
  /** Bytes in use. */
  readonly used: () => number;
  readonly clock: Clock;
  /** Garbage should go: it may be all that there is too much of. `short`: and free memory to the kernel, whatever it costs later. */
  readonly collect: (short: boolean) => void;
  /** Called at each change: whether the budget is used up, and bytes in use. */
  readonly onChange: (short: boolean, used: number) => void;
}

export class MemoryBudget implements Disposable {
  readonly #options: MemoryBudgetOptions;
  #short = false;
  #collected = -Infinity;
  #timer: Timer | undefined;

  /** Looks until it is disposed of. */
  constructor(options: MemoryBudgetOptions) {
    this.#options = options;
    this.#look();
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const { budget, clock, onChange } = this.#options;
    const used = this.#options.used();
    const short = used >= (this.#short ? budget * EASED : budget);
    if (short !== this.#short) {
      this.#short = short;
      onChange(short, used);
    }
    if (used >= budget * COLLECT) this.#collect();
    const delay = Math.min(Math.max((budget - used) / GROWTH, LOOK.min), LOOK.max);
    this.#timer = clock.after(delay, () => this.#look());
  }

  #collect(): void {
    const now = this.#options.clock.monotonic();
    if (now - this.#collected < COLLECT_INTERVAL[this.#short ? 'short' : 'usual']) return;
    this.#collected = now;
    this.#options.collect(this.#short);
  }
}
