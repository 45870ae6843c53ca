// What a connection takes up as long as it lasts: a place among those that may be open, and the patience of its pod's drain.
import type { Drain } from '#shared/lifecycle/drain.ts';
import type { ConnectionLimit, Entrance } from '#shared/lifecycle/connection-limit.ts';

/** Of all connections that come one way to one pod. */
export class Stays {
  readonly #limit: ConnectionLimit | undefined;
  readonly #drain: Drain | undefined;

  /** `drain`: it waits for these connections. Without a limit they are let in as they are. */
  constructor(limit: ConnectionLimit | undefined, drain: Drain | undefined) {
    this.#limit = limit;
    this.#drain = drain;
  }

  /** Throws `limit_reached` when there is no room. */
  take(entrance: Entrance): Stay {
    this.#limit?.enter(entrance);
    this.#drain?.enter();
    return new Stay(this);
  }

  /** For each stay that was passed on, once. */
  leave(): void {
    this.#limit?.leave();
    this.#drain?.leave();
  }
}

/** Of one connection, until it is on its way or given up. */
export class Stay implements Disposable {
  #stays: Stays | undefined;

  constructor(stays: Stays) {
    this.#stays = stays;
  }

  /** Whoever takes it over calls leave() at the end: an open connection needs no object for that. Disposing does nothing from then on. */
  pass(): Stays {
    const stays = this.#stays;
    if (!stays) throw new Error('the stay is over');
    this.#stays = undefined;
    return stays;
  }

  /** Twice counts once. */
  [Symbol.dispose](): void {
    const stays = this.#stays;
    this.#stays = undefined;
    stays?.leave();
  }
}
