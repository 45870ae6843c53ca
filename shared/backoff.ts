// Jittered exponential delay between attempts.

export interface BackoffOptions {
  /** First delay, ms. */
  initial: number;
  /** Largest delay, ms. */
  max: number;
  /** Share of the delay that is random, 0..1 (0.2 = plus or minus 20 %). */
  jitter?: number;
  random?: () => number;
}

export class Backoff {
  #options: Required<BackoffOptions>;
  #next: number;

  constructor(options: BackoffOptions) {
    this.#options = { jitter: 0.2, random: Math.random, ...options };
    this.#next = options.initial;
  }

  /** The delay before the next attempt, ms; doubles each time up to the maximum. */
  next(): number {
    const { max, jitter, random } = this.#options;
    const base = Math.min(this.#next, max);
    this.#next = Math.min(base * 2, max);
    return base * (1 + jitter * (2 * random() - 1));
  }

  /** After a success: start again from the first delay. */
  reset(): void {
    this.#next = this.#options.initial;
  }
}
