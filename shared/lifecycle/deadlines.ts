// Many waits of one length, nearly all of which end before it: one timer for all of them, and two operations of a table for each.
import type { Clock, Timer } from '../clock.ts';
import { IdTable } from '../collections/id-table.ts';
import type { Numbered } from '../collections/id-table.ts';

/** Waits for something that should come within the time. */
export interface Waiting extends Numbered {
  /** Whole milliseconds of Clock.monotonic(); set by Deadlines alone. */
  due: number;
  /** Once, unless it was deleted before. */
  onDeadline(): void;
}

export class Deadlines {
  readonly #clock: Clock;
  /** Milliseconds. */
  readonly #length: number;
  readonly #waiting = new IdTable<Waiting>();
  #timer: Timer | undefined;

  constructor(clock: Clock, length: number) {
    this.#clock = clock;
    this.#length = length;
  }

  /** What waits already goes on to wait for the same moment. */
  add(waiting: Waiting): void {
    if (this.#waiting.has(waiting)) return;
    waiting.due = Math.ceil(this.#clock.monotonic()) + this.#length;
    this.#waiting.add(waiting);
    if (!this.#timer) this.#wait(this.#length);
  }

  /** Safe to call twice, and after the deadline. */
  delete(waiting: Waiting): void {
    this.#waiting.delete(waiting);
  }

  #wait(ms: number): void {
    this.#timer = this.#clock.after(ms, () => this.#expire());
  }

  /** The timer is not moved when its first wait ends: it finds out here who is next, if anybody is. What is added meanwhile waits for that. */
  #expire(): void {
    const now = this.#clock.monotonic();
    const due = this.#waiting.all().filter((waiting) => waiting.due <= now);
    try {
      // One that was told may have taken others away.
      for (const waiting of due.sort((a, b) => a.due - b.due)) if (this.#waiting.delete(waiting)) waiting.onDeadline();
    } finally {
      this.#timer = undefined;
      const next = this.#waiting.all().reduce((first, waiting) => Math.min(first, waiting.due), Infinity);
      if (next < Infinity) this.#wait(Math.max(0, next - now));
    }
  }
}
