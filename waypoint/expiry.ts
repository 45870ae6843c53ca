// Times after which something ends, for things whose time moves on with every request: moving it is one store, and one timer serves all.
import type { Clock, Timer } from '#shared/clock.ts';
import type { Numbered } from '#shared/collections/id-table.ts';
import { IdTable } from '#shared/collections/id-table.ts';

export interface Expiring extends Numbered {
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
  readonly #members = new IdTable<Expiring>();
  /** When the timer goes off; Infinity without one. */
  #armed = Infinity;
  #timer: Timer | undefined;

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
    this.#timer?.cancel();
    const wait = Math.max(at - now, SHORTEST_WAIT);
    this.#armed = now + wait;
    this.#timer = this.#clock.after(wait, () => this.#look());
  }

  #look(): void {
    this.#armed = Infinity;
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    let next = Infinity;
    for (const member of this.#members.all()) {
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
