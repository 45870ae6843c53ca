// Flow control (RFC 9113, section 5.2). The connection's window is given back as soon as octets are off the wire, so that a stalled
// stream never uses up what the others need; what one stream can hold is bounded by its own window. That one starts small and
// doubles, up to its limit, while its reader keeps up and has proved to take much more than sockets hold by themselves.
import { ConnectionFault, Http2Code, MAX_WINDOW } from './frames.ts';

/**
 * A window that any reader gets, octets. The sockets behind a reader that never reads take some megabytes, and look like one that keeps up
 * until they are full.
 */
const UNPROVEN = 262_144;
/** Beyond that a window is at most this part of what its reader has taken. */
const PROOF = 16;

/** How much the peer may still send. */
export class ReceiveWindow {
  #size: number;
  #limit: number;
  /** What the peer may send now. */
  #left: number;
  /** Taken by the reader and not yet given back. */
  #taken = 0;
  /** Given back in all. */
  #proved = 0;

  constructor(size: number, limit: number = size) {
    this.#size = size;
    this.#limit = limit;
    this.#left = size;
  }

  /** False when the peer sent more than it was allowed to. */
  receive(octets: number): boolean {
    this.#left -= octets;
    return this.#left >= 0;
  }

  /** The reader took octets; returns the WINDOW_UPDATE to send now, or 0. `keepsUp`: nothing else waits for the reader. */
  take(octets: number, keepsUp: boolean): number {
    this.#taken += octets;
    if (this.#taken * 2 < this.#size) return 0;
    this.#proved += this.#taken;
    const grown = keepsUp ? this.#grown() : this.#size;
    const increment = this.#taken + grown - this.#size;
    this.#size = grown;
    this.#taken = 0;
    this.#left += increment;
    return increment;
  }

  #grown(): number {
    const most = Math.min(this.#limit, Math.max(UNPROVEN, this.#proved / PROOF));
    return Math.max(this.#size, Math.min(this.#size * 2, Math.floor(most)));
  }
}

/** How much this side may still send. It may go below zero when the peer shrinks its initial window. */
export class SendWindow {
  left: number;

  constructor(size: number) {
    this.left = size;
  }

  /** False when the window passes 2^31-1. */
  grow(increment: number): boolean {
    this.left += increment;
    return this.left <= MAX_WINDOW;
  }
}

/** The peer overran a window of the connection. */
export function windowFault(what: string): ConnectionFault {
  return new ConnectionFault(Http2Code.flowControlError, what);
}
