// What a peer may make a session do or hold before the session ends. Each limit answers a known attack. They are generous: one
// connection carries the tunnels of a whole pod, at more than ten thousand a second, and must not end because some of them misbehave.
import type { Clock } from '../clock.ts';
import { ConnectionFault, Http2Code } from './frames.ts';

export interface Http2Limits {
  /** Octets of one header block as sent, over HEADERS and all CONTINUATION frames. */
  headerBlock: number;
  /** CONTINUATION frames of one block (continuation flood, CVE-2024-27316). */
  continuations: number;
  /** Server: streams that were reset before an answer, by the peer (rapid reset, CVE-2023-44487) or for its faults. */
  resets: Rate;
  /** Frames that ask for an answer: PING, SETTINGS (CVE-2019-9512, 9515). */
  questions: Rate;
  /**
   * Frames that do nothing: empty DATA, PRIORITY, GOAWAY, answers, unknown types, frames of closed streams, and more WINDOW_UPDATE than what was
   * sent gives reason for (CVE-2019-9511, 9513, 9518).
   */
  idleFrames: Rate;
  /**
   * Octets of output other than DATA that wait while the peer does not read. Beyond it no request is read, and a frame that asks for an answer,
   * or deserves an RST_STREAM, ends the session.
   */
  controlBacklog: number;
}

/** A bucket of `burst` tokens that refills by `perSecond`. */
export interface Rate {
  burst: number;
  perSecond: number;
}

export const DEFAULT_LIMITS: Http2Limits = {
  headerBlock: 65_536,
  continuations: 16,
  resets: { burst: 2000, perSecond: 1000 },
  questions: { burst: 2000, perSecond: 10_000 },
  idleFrames: { burst: 20_000, perSecond: 20_000 },
  controlBacklog: 1_048_576,
};

/** Throws ENHANCE_YOUR_CALM when spent faster than its rate. Time is read only when the bucket runs dry. */
export class Budget {
  #rate: Rate;
  #clock: Clock;
  #what: string;
  #tokens: number;
  #filled: number;

  constructor(rate: Rate, clock: Clock, what: string) {
    this.#rate = rate;
    this.#clock = clock;
    this.#what = what;
    this.#tokens = rate.burst;
    this.#filled = clock.monotonic();
  }

  spend(): void {
    if (this.#tokens < 1) this.#refill();
    if (this.#tokens < 1) throw new ConnectionFault(Http2Code.enhanceYourCalm, `too many ${this.#what}`);
    this.#tokens--;
  }

  #refill(): void {
    const now = this.#clock.monotonic();
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + ((now - this.#filled) / 1000) * this.#rate.perSecond);
    this.#filled = now;
  }
}
