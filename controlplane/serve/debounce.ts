// Many changes in a short time become one: waits for a pause, but not for ever.
import type { Clock, Timer } from '#shared/clock.ts';

export interface DebounceOptions {
  /** Quiet time after the last change, ms. */
  after: number;
  /** The longest time since the first change, ms. */
  max: number;
}

export class Debouncer {
  #options: DebounceOptions;
  #clock: Clock;
  #run: () => void;
  #first: number | undefined;
  #timer: Timer | undefined;

  constructor(options: DebounceOptions, clock: Clock, run: () => void) {
    this.#options = options;
    this.#clock = clock;
    this.#run = run;
  }

  trigger(): void {
    const now = this.#clock.monotonic();
    this.#first ??= now;
    this.#timer?.cancel();
    const { after, max } = this.#options;
    this.#timer = this.#clock.after(Math.max(0, Math.min(after, this.#first + max - now)), () => {
      this.#first = undefined;
      this.#timer = undefined;
      this.#run();
    });
  }

  cancel(): void {
    this.#first = undefined;
    this.#timer?.cancel();
  }
}
