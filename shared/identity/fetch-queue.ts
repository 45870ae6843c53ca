// A bounded number of jobs at a time, the most urgent first, the oldest first among equals.

/** A connection waits; a pod has just come; nobody waits yet. */
export type Priority = 'realtime' | 'warmup' | 'background';

const RANK: Record<Priority, number> = { realtime: 0, warmup: 1, background: 2 };

interface Job {
  rank: number;
  run: () => Promise<void>;
}

export class FetchQueue<K> {
  #limit: number;
  #running = 0;
  #waiting = new Map<K, Job>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Queues a job, or makes the waiting one of this key more urgent. `run` must not reject. */
  add(key: K, priority: Priority, run: () => Promise<void>): void {
    const waiting = this.#waiting.get(key);
    if (waiting) waiting.rank = Math.min(waiting.rank, RANK[priority]);
    else this.#waiting.set(key, { rank: RANK[priority], run });
    this.#pump();
  }

  /** Raises the urgency of a job that waits. */
  raise(key: K, priority: Priority): void {
    const waiting = this.#waiting.get(key);
    if (waiting) waiting.rank = Math.min(waiting.rank, RANK[priority]);
  }

  remove(key: K): void {
    this.#waiting.delete(key);
  }

  #pump(): void {
    while (this.#running < this.#limit && this.#waiting.size > 0) {
      const job = this.#takeFirst();
      if (!job) return;
      this.#running += 1;
      void job.run().finally(() => {
        this.#running -= 1;
        this.#pump();
      });
    }
  }

  #takeFirst(): Job | undefined {
    let best: [K, Job] | undefined;
    for (const entry of this.#waiting) if (!best || entry[1].rank < best[1].rank) best = entry;
    if (best) this.#waiting.delete(best[0]);
    return best?.[1];
  }
}
