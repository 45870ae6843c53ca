// What a connection takes up as long as it lasts: a place among those that may be open, and the patience of its pod's drain.
import type { Drain } from '#shared/lifecycle/drain.ts';
import type { ConnectionLimit, Entrance } from '#shared/lifecycle/connection-limit.ts';

export class Stay implements Disposable {
  #limit: ConnectionLimit | undefined;
  #drain: Drain | undefined;

  /** Throws `limit_reached` when there is no room. `drain`: it waits for this connection. */
  static take(limit: ConnectionLimit, entrance: Entrance, drain?: Drain): Stay {
    limit.enter(entrance);
    return new Stay(limit, drain);
  }

  /** `limit`: where a place was taken. */
  constructor(limit: ConnectionLimit | undefined, drain: Drain | undefined) {
    this.#limit = limit;
    this.#drain = drain;
    drain?.enter();
  }

  /** Twice counts once. */
  [Symbol.dispose](): void {
    const [limit, drain] = [this.#limit, this.#drain];
    this.#limit = undefined;
    this.#drain = undefined;
    limit?.leave();
    drain?.leave();
  }
}
