// Many waits of one length, nearly all of which end before it: one timer for all of them, and two operations of a set for each.
import type { Clock, Timer } from '../clock.ts';

/** Waits for something that should come within the time. */
export interface Waiting {
  /** Once, unless it was deleted before. */
  onDeadline(): void;
}

export class Deadlines {
  readonly #clock: Clock;
  /** Milliseconds. */
  readonly #length: number;
  /** By due time, which is the order of insertion. */
  readonly #due = new Map<Waiting, number>();
  #timer: Timer | undefined;

  constructor(clock: Clock, length: number) {
    this.#clock = clock;
    this.#length = length;
  }

  /** What waits already goes on to wait for the same moment. */
  add(waiting: Waiting): void {
    if (this.#due.has(waiting)) return;
    this.#due.set(waiting, this.#clock.monotonic() + this.#length);
    if (!this.#timer) this.#wait(this.#length);
  }

  /** Safe to call twice, and after the deadline. */
  delete(waiting: Waiting): void {
    this.#due.delete(waiting);
  }

  #wait(ms: number): void {
    this.#timer = this.#clock.after(ms, () => this.#expire());
  }

  /** The timer is not moved when its first wait ends: it finds out here who is next, if anybody is. */
  #expire(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (const [waiting, due] of this.#due) {
      if (due > now) return this.#wait(due - now);
      this.#due.delete(waiting);
      waiting.onDeadline();
    }
    return undefined;
  }
}
