// Flow control (RFC 9113, section 5.2). The connection's window is given back as soon as octets are off the wire, so that a stalled
// stream never uses up what the others need; what one stream can hold is bounded by its own window. That one starts small and
// doubles, up to its limit, while its reader keeps up and has proved to take much more than sockets hold by themselves. By how much all of
// them grow is bounded too: readers that stop after they have proved themselves are still owed what their windows are.
import { ConnectionFault, Http2Code, MAX_WINDOW } from './frames.ts';

/**
 * A window that any reader gets, octets. The sockets behind a reader that never reads take some megabytes, and look like one that keeps up
 * until they are full.
 */
const UNPROVEN = 262_144;
/** Beyond that a window is at most this part of what its reader has taken. */
const PROOF = 16;

/**
 * What the windows of a connection may have grown by in all, octets. Each may have an equal part; one that has more gives it back as it is read.
 * One that is not read keeps its part, as the peer was promised it.
 */
export class WindowGrowth {
  readonly #total: number;
  #left: number;
  /** Windows that have grown. */
  #users = 0;

  constructor(total: number) {
    this.#total = total;
    this.#left = total;
  }

  /** A window that has grown by `extra` wants to have grown by `wanted`, and cannot have less than `least`; returns what it has from now on. */
  resize(extra: number, wanted: number, least: number): number {
    const fair = Math.floor(this.#total / (this.#users + (extra === 0 ? 1 : 0)));
    const granted = Math.max(least, Math.min(wanted, fair, extra + this.#left));
    this.#left -= granted - extra;
    this.#users += Number(granted > 0) - Number(extra > 0);
    return granted;
  }
}

/** What the windows of a connection have in common, octets. */
export interface WindowPlan {
  readonly first: number;
  readonly limit: number;
  /** Shared by those that may grow; without it one grows up to its limit. */
  readonly growth?: WindowGrowth;
}

/** How much the peer may still send. */
export class ReceiveWindow {
  readonly #plan: WindowPlan;
  #size: number;
  /** What the peer may send now. */
  #left: number;
  /** Taken by the reader and not yet given back. */
  #taken = 0;
  /** Given back in all. */
  #proved = 0;

  constructor(plan: WindowPlan) {
    this.#plan = plan;
    this.#size = plan.first;
    this.#left = plan.first;
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
    const size = ReceiveWindow.#resized(this, keepsUp ? ReceiveWindow.#grown(this) : this.#size);
    const increment = this.#taken + size - this.#size;
    this.#size = size;
    this.#taken = 0;
    this.#left += increment;
    return increment;
  }

  /** What the peer may send in one go, and so the most that waits for the reader. */
  get size(): number {
    return this.#size;
  }

  /** Nothing more will come: others may grow by what this window has. */
  release(): void {
    const { first, growth } = this.#plan;
    growth?.resize(this.#size - first, 0, 0);
    this.#size = first;
  }

  /** It shrinks by no more than what was taken: the rest is promised already. */
  static #resized(window: ReceiveWindow, wanted: number): number {
    const { first, growth } = window.#plan;
    if (!growth) return wanted;
    const extra = window.#size - first;
    return first + growth.resize(extra, wanted - first, Math.max(0, extra - window.#taken));
  }

  /** Static, as the other one: an object of a class with private methods takes eight bytes to say so. */
  static #grown(window: ReceiveWindow): number {
    const most = Math.min(window.#plan.limit, Math.max(UNPROVEN, window.#proved / PROOF));
    return Math.max(window.#size, Math.min(window.#size * 2, Math.floor(most)));
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
