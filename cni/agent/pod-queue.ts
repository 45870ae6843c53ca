// Work on pods: one piece at a time for each pod, a few pods at once, failed pieces again later.
import { Backoff } from '#shared/backoff.ts';
import type { Clock, Timer } from '#shared/clock.ts';

export interface PodQueueOptions {
  /** Brings the pod to where it should be. What it rejects with is told and it runs again later. */
  reconcile(uid: string): Promise<void>;
  onFailure(uid: string, error: unknown, retryIn: number): void;
  clock: Clock;
  /** How many pods are worked on at once; each costs a few short processes. */
  concurrency?: number;
}

const FIRST_RETRY = 250;
const LAST_RETRY = 15_000;

export class PodQueue {
  #options: PodQueueOptions;
  #chains = new Map<string, Promise<void>>();
  #waiting = new Set<string>();
  #retries = new Map<string, { backoff: Backoff; timer: Timer }>();
  #delays = new Map<string, { due: number; timer: Timer }>();
  #free: number;
  #slots: (() => void)[] = [];
  #closed = false;

  constructor(options: PodQueueOptions) {
    this.#options = options;
    this.#free = options.concurrency ?? 4;
  }

  /** Runs alone among everything that concerns this pod. */
  async exclusive<T>(uid: string, task: () => Promise<T>): Promise<T> {
    const turn = Promise.withResolvers<void>();
    const before = this.#chains.get(uid);
    this.#chains.set(uid, turn.promise);
    await before;
    try {
      return await task();
    } finally {
      turn.resolve();
      if (this.#chains.get(uid) === turn.promise) this.#chains.delete(uid);
    }
  }

  /** Asks for a reconcile soon; asking again before it has begun changes nothing. */
  add(uid: string): void {
    if (this.#closed || this.#waiting.has(uid)) return;
    this.#waiting.add(uid);
    void this.exclusive(uid, () => this.#run(uid));
  }

  /** Asks for one after `ms`, or before that when one was asked for earlier. */
  later(uid: string, ms: number): void {
    const { clock } = this.#options;
    const due = clock.monotonic() + ms;
    const before = this.#delays.get(uid);
    if (this.#closed || (before && before.due <= due)) return;
    before?.timer.cancel();
    const timer = clock.after(ms, () => {
      this.#delays.delete(uid);
      this.add(uid);
    });
    this.#delays.set(uid, { due, timer });
  }

  /** What failed before is tried now: the reason for it may be gone. */
  retryNow(): void {
    for (const [uid, { timer }] of this.#retries) {
      timer.cancel();
      this.add(uid);
    }
  }

  /** Nothing more is begun; resolves when what runs has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { timer } of this.#retries.values()) timer.cancel();
    for (const { timer } of this.#delays.values()) timer.cancel();
    await Promise.all(this.#chains.values());
  }

  async #run(uid: string): Promise<void> {
    await this.#takeSlot();
    this.#waiting.delete(uid);
    try {
      if (!this.#closed) await this.#options.reconcile(uid);
      this.#retries.get(uid)?.timer.cancel();
      this.#retries.delete(uid);
    } catch (error) {
      this.#retry(uid, error);
    } finally {
      this.#releaseSlot();
    }
  }

  #retry(uid: string, error: unknown): void {
    const known = this.#retries.get(uid);
    known?.timer.cancel();
    const backoff = known?.backoff ?? new Backoff({ initial: FIRST_RETRY, max: LAST_RETRY });
    const delay = backoff.next();
    this.#options.onFailure(uid, error, delay);
    if (this.#closed) return;
    this.#retries.set(uid, { backoff, timer: this.#options.clock.after(delay, () => this.add(uid)) });
  }

  async #takeSlot(): Promise<void> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#slots.push(resolve));
  }

  #releaseSlot(): void {
    const next = this.#slots.shift();
    if (next) next();
    else this.#free += 1;
  }
}
