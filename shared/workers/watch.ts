// Whether a worker still answers. One that spins or hangs has no exit that could be noticed: what it serves stands still, and whoever asks it
// something waits.
import type { Clock, Timer } from '../clock.ts';

export interface WatchTimes {
  /** Milliseconds between two looks; also how long an answer may take. */
  readonly every: number;
  /** Looks in a row without an answer until it counts as silent. */
  readonly silent: number;
  /** Likewise, until it counts as hung. Many: its connections end with it, and a busy machine may hold up a thread for long. */
  readonly hung: number;
}

export interface WatchOptions {
  readonly clock: Clock;
  /** Asks for a sign of life; rejects when the worker ends. */
  readonly ask: () => Promise<unknown>;
  readonly onSilent: () => void;
  /** It answers again after a silence. */
  readonly onHeard: () => void;
  readonly onHung: () => void;
}

/** 10 s until others may know, 60 s until the worker is given up. */
const TIMES: WatchTimes = { every: 5000, silent: 2, hung: 12 };

/** Of one worker, from its start to its end. */
export class WorkerWatch implements Disposable {
  readonly #options: WatchOptions;
  readonly #times: WatchTimes;
  #timer: Timer | undefined;
  #asking = false;
  #missed = 0;
  #looked: number;
  #over = false;

  constructor(options: WatchOptions, times: WatchTimes = TIMES) {
    this.#options = options;
    this.#times = times;
    this.#looked = options.clock.monotonic();
    this.#wait();
  }

  [Symbol.dispose](): void {
    this.#over = true;
    this.#timer?.cancel();
  }

  #wait(): void {
    this.#timer = this.#options.clock.after(this.#times.every, () => this.#look());
  }

  #look(): void {
    const now = this.#options.clock.monotonic();
    const late = now - this.#looked > 2 * this.#times.every;
    this.#looked = now;
    this.#wait();
    if (!this.#asking) return this.#ask();
    // Who stood still himself (a stopped process, a machine that slept) has given nobody time to answer.
    if (late) return;
    this.#missed += 1;
    if (this.#missed === this.#times.silent) this.#options.onSilent();
    if (this.#missed === this.#times.hung) this.#options.onHung();
  }

  #ask(): void {
    this.#asking = true;
    this.#options.ask().then(
      () => this.#heard(),
      () => undefined,
    );
  }

  #heard(): void {
    if (this.#over) return;
    const silence = this.#missed >= this.#times.silent;
    this.#asking = false;
    this.#missed = 0;
    if (silence) this.#options.onHeard();
  }
}
