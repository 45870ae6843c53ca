// Pushes one stream per turn of the event loop, in order of arrival, each stream at most once in the queue: a large push to many
// proxies leaves room for requests, and no proxy is served twice before another is served once.

export interface Pushable {
  /** Sends what is new; must not throw. */
  push(): void;
}

export class PushQueue {
  #waiting = new Set<Pushable>();
  #running = false;

  add(target: Pushable): void {
    this.#waiting.add(target);
    if (this.#running) return;
    this.#running = true;
    setImmediate(() => this.#next());
  }

  remove(target: Pushable): void {
    this.#waiting.delete(target);
  }

  get length(): number {
    return this.#waiting.size;
  }

  #next(): void {
    const [target] = this.#waiting;
    if (!target) {
      this.#running = false;
      return;
    }
    this.#waiting.delete(target);
    target.push();
    setImmediate(() => this.#next());
  }
}
