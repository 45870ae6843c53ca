// The two stages of going away: first nothing new is taken and what runs may finish, then, at the deadline, what is left is cut.
import { setMaxListeners } from 'node:events';
import { systemClock } from '../clock.ts';
import type { Clock, Timer } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { CancelScope, type CancelSignal } from './cancel.ts';

/** How a drain ended. */
export type DrainOutcome = 'drained' | 'forced';

/**
 * One drain for everything that stops together (a process, one pod's listeners). Connections keep the drain from finishing with
 * `using token = drain.hold()`; they watch `draining` to say goodbye (GOAWAY) and `force` to drop.
 */
export class Drain {
  #draining = new AbortController();
  #force = new AbortController();
  #cut = new CancelScope();
  #clock: Clock;
  #holds = 0;
  #idle = Promise.withResolvers<void>();
  #outcome: Promise<DrainOutcome> | undefined;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
    // One listener per connection is the intended use, not a leak.
    setMaxListeners(0, this.#draining.signal, this.#force.signal);
  }

  /** Aborted when the drain begins: stop accepting, tell the peers. */
  get draining(): AbortSignal {
    return this.#draining.signal;
  }

  /** Aborted at the deadline: drop what is left. */
  get force(): AbortSignal {
    return this.#force.signal;
  }

  /** As `force`, for each of many connections. */
  get cut(): CancelSignal {
    return this.#cut;
  }

  /** How many tokens are out. */
  get holds(): number {
    return this.#holds;
  }

  /** Keeps the drain waiting until the token is disposed; disposing twice counts once. */
  hold(): Disposable {
    this.enter();
    return new Hold(this);
  }

  /** As hold(), for those that come by the thousand and have their own way to know that they leave() once. */
  enter(): void {
    this.#holds += 1;
  }

  leave(): void {
    this.#holds -= 1;
    if (this.#holds === 0 && this.#draining.signal.aborted) this.#idle.resolve();
  }

  /**
   * Begins the drain and resolves when every token is back, or right after `force` was aborted.
   * @param deadline milliseconds until what is left is cut; 0 cuts at once. Only the first call counts, later ones share its outcome
   * (but a deadline of 0 always cuts).
   */
  start(deadline: number): Promise<DrainOutcome> {
    this.#draining.abort();
    if (deadline <= 0) this.#drop();
    this.#outcome ??= this.#run(deadline);
    return this.#outcome;
  }

  async #run(deadline: number): Promise<DrainOutcome> {
    if (this.#holds === 0) this.#idle.resolve();
    let timer: Timer | undefined;
    const forced = Promise.withResolvers<void>();
    this.#force.signal.addEventListener('abort', () => forced.resolve(), { once: true });
    if (this.#force.signal.aborted) forced.resolve();
    else timer = this.#clock.after(deadline, () => this.#drop());
    const outcome = await Promise.race([
      this.#idle.promise.then(() => 'drained' as const),
      forced.promise.then(() => 'forced' as const),
    ]);
    timer?.cancel();
    return outcome;
  }

  #drop(): void {
    this.#force.abort();
    this.#cut.cancel(new MeshError('draining', 'connection closed due to connection drain'));
  }
}

class Hold implements Disposable {
  #drain: Drain | undefined;

  constructor(drain: Drain) {
    this.#drain = drain;
  }

  [Symbol.dispose](): void {
    const drain = this.#drain;
    this.#drain = undefined;
    drain?.leave();
  }
}
