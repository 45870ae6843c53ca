// Times after which something ends, for things whose time moves on with every request: moving it is one store, and one timer serves all.
import type { Clock } from '#shared/clock.ts';

export interface Expiring {
  /** Of Clock.monotonic(); Infinity: never. Set by Expiry alone. */
  deadline: number;
  /** The time has come; the deadline is Infinity again. */
  onDeadline(): void;
}

/** Milliseconds that a client's connection without a request is kept: Envoy's default. */
export const IDLE_TIMEOUT_MS = 3_600_000;

/** Milliseconds between two looks at most of the time: what is due meanwhile is that late. */
const SHORTEST_WAIT = 50;

export class Expiry {
  readonly #clock: Clock;
  readonly #members = new Set<Expiring>();
  /** When the timer goes off; Infinity without one. */
  #armed = Infinity;
  #cancel: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(member: Expiring): void {
    this.#members.add(member);
  }

  delete(member: Expiring): void {
    this.#members.delete(member);
    member.deadline = Infinity;
  }

  /** From now on the member, which was added, has `ms` milliseconds. */
  set(member: Expiring, ms: number): void {
    const now = this.#clock.monotonic();
    member.deadline = now + ms;
    if (member.deadline < this.#armed) this.#arm(now, member.deadline);
  }

  #arm(now: number, at: number): void {
    this.#cancel?.();
    const wait = Math.max(at - now, SHORTEST_WAIT);
    this.#armed = now + wait;
    const timer = this.#clock.after(wait, () => this.#look());
    this.#cancel = () => timer.cancel();
  }

  #look(): void {
    this.#armed = Infinity;
    this.#cancel = undefined;
    const now = this.#clock.monotonic();
    let next = Infinity;
    for (const member of this.#members) {
      if (member.deadline > now) {
        next = Math.min(next, member.deadline);
        continue;
      }
      member.deadline = Infinity;
      member.onDeadline();
    }
    if (next < this.#armed) this.#arm(now, next);
  }
}
