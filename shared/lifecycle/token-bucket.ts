// A rate that may be exceeded for a moment: tokens come at the rate, up to a store of some, and each thing that happens takes one.
import type { Clock } from '../clock.ts';

export interface TokenBucketOptions {
  /** Tokens a second. */
  readonly rate: number;
  /** The most that are kept. */
  readonly burst: number;
  readonly clock: Pick<Clock, 'monotonic'>;
}

export class TokenBucket {
  readonly #options: TokenBucketOptions;
  #tokens: number;
  /** When tokens were counted last, on the monotonic clock. */
  #at: number;

  /** Full at first. */
  constructor(options: TokenBucketOptions) {
    this.#options = options;
    this.#tokens = options.burst;
    this.#at = options.clock.monotonic();
  }

  /** Takes one; false when there is none. */
  take(): boolean {
    const { rate, burst, clock } = this.#options;
    const now = clock.monotonic();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#at) * rate) / 1000);
    this.#at = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
