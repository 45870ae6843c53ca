// Finds out that a silent peer is gone: PING after a quiet interval, and the end of the session when nothing at all comes back.
import type { Clock, Timer } from '../clock.ts';
import { MeshError } from '../errors.ts';
import type { Http2Session } from './session.ts';

/** Milliseconds. */
export interface KeepaliveOptions {
  /** Quiet time before a PING. */
  interval: number;
  /** From the PING to giving up. */
  timeout: number;
}

/** As Istio's ztunnel (facts: ztunnel 5). */
export const DEFAULT_KEEPALIVE: KeepaliveOptions = { interval: 10_000, timeout: 20_000 };

/** Watches until stop(). While frames come in no PING is sent. */
export class Keepalive {
  #session: Http2Session;
  #clock: Clock;
  #options: KeepaliveOptions;
  #seen = 0;
  #timer: Timer;

  constructor(session: Http2Session, clock: Clock, options: KeepaliveOptions = DEFAULT_KEEPALIVE) {
    this.#session = session;
    this.#clock = clock;
    this.#options = options;
    this.#timer = this.#wait();
  }

  stop(): void {
    this.#timer.cancel();
  }

  #wait(): Timer {
    this.#seen = this.#session.activity;
    return this.#clock.after(this.#options.interval, () => {
      this.#timer = this.#session.activity === this.#seen ? this.#probe() : this.#wait();
    });
  }

  #probe(): Timer {
    this.#session.ping(() => undefined);
    return this.#clock.after(this.#options.timeout, () => {
      if (this.#session.activity !== this.#seen) this.#timer = this.#wait();
      else
        this.#session.close(
          new MeshError('reset', `no answer to a PING for ${this.#options.timeout / 1000} s: the peer is gone`),
        );
    });
  }
}
