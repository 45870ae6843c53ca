// Time as a dependency. Rotation, drain deadlines and back-off are time logic; tests give a clock they move by hand.

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the epoch: for certificates and log lines. */
  now(): number;
  /** Milliseconds of a clock that never steps: for durations. */
  monotonic(): number;
  /** Calls back once after `ms`; never keeps the process alive by itself. */
  after(ms: number, callback: () => void): Timer;
}

/** The largest delay setTimeout takes (2^31-1 ms); longer ones are waited for in steps. */
const MAX_DELAY = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, callback) {
    let left = ms;
    let handle: NodeJS.Timeout;
    const step = (): void => {
      const delay = Math.min(left, MAX_DELAY);
      left -= delay;
      handle = setTimeout(() => (left > 0 ? step() : callback()), delay);
      handle.unref();
    };
    step();
    return { cancel: () => clearTimeout(handle) };
  },
};

/** A clock that stands still until a test moves it. */
export class FakeClock implements Clock {
  #now: number;
  #stepped = 0;
  #timers = new Set<{ at: number; callback: () => void }>();

  constructor(now = 0) {
    this.#now = now;
  }

  now(): number {
    return this.#now + this.#stepped;
  }

  monotonic(): number {
    return this.#now;
  }

  /** Sets the time of day on or back, as an administrator or a time server does; no time passes. */
  step(ms: number): void {
    this.#stepped += ms;
  }

  after(ms: number, callback: () => void): Timer {
    const entry = { at: this.#now + ms, callback };
    this.#timers.add(entry);
    return { cancel: () => void this.#timers.delete(entry) };
  }

  /** Moves time on by `ms` and runs what falls due, in order. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      let next: { at: number; callback: () => void } | undefined;
      for (const entry of this.#timers) if (entry.at <= end && (!next || entry.at < next.at)) next = entry;
      if (!next) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = end;
  }
}
