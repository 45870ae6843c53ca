// Waiting for a descriptor that Node has no handle for. A blocked thread-pool call would do the same, but holds one of four threads
// and keeps the process from exiting.
import { READABLE, UvPoll, WRITABLE } from './uv-poll.ts';

/** One watcher per descriptor. It does not own the descriptor, and must be closed before it. Main thread only. */
export class FdWatcher {
  readonly #poll: UvPoll;
  readonly #waiting: { events: number; settle: (open: boolean) => void }[] = [];
  #closed = false;

  constructor(fd: number) {
    this.#poll = new UvPoll(fd, () => this.#wake());
  }

  /** Resolves when a read would not block; false when the watcher was closed. */
  readable(): Promise<boolean> {
    return this.#wait(READABLE);
  }

  /** Resolves when a write would not block; false when the watcher was closed. */
  writable(): Promise<boolean> {
    return this.#wait(WRITABLE);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#poll.close();
    for (const { settle } of this.#waiting.splice(0)) settle(false);
  }

  /** Wakes every waiter (a spurious wake-up costs one EAGAIN) and stops watching until the next wait. */
  #wake(): void {
    if (this.#closed) return;
    this.#poll.stop();
    const woken = this.#waiting.splice(0);
    setImmediate(() => {
      for (const { settle } of woken) settle(!this.#closed);
    });
  }

  #wait(events: number): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    return new Promise((settle) => {
      this.#waiting.push({ events, settle });
      this.#poll.start(this.#waiting.reduce((all, waiting) => all | waiting.events, 0));
    });
  }
}
