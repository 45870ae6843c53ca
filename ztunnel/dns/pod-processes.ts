// Which process lives in which network namespace: one look through /proc for all pods, when one is missed.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '#shared/clock.ts';

/** At most one look in so many ms: each costs a system call per process of the node. */
const PAUSE = 5000;
/** Processes that are asked for at a time. */
const BATCH = 32;
/** Processes that are kept of one namespace. */
const MAX_KEPT = 8;

export class PodProcesses {
  readonly #proc: string;
  readonly #clock: Clock;
  /** Process ids by namespace, the oldest first. */
  #found: ReadonlyMap<string, readonly string[]> = new Map();
  #look: { readonly at: number; readonly done: Promise<void> } | undefined;

  /** `proc`: where procfs is mounted. */
  constructor(clock: Clock, proc = '/proc') {
    this.#clock = clock;
    this.#proc = proc;
  }

  /** The root folders of the oldest processes in the namespace, as they see them; none when none is seen from here. */
  async rootsOf(netnsId: string): Promise<string[]> {
    if (!(await this.#holds(netnsId))) {
      const now = this.#clock.monotonic();
      if (!this.#look || now - this.#look.at > PAUSE) this.#look = { at: now, done: this.#scan() };
      await this.#look.done;
    }
    return (this.#found.get(netnsId) ?? []).map((pid) => join(this.#proc, pid, 'root'));
  }

  /** Whether what was found is still there: its process ids may be others' by now. */
  async #holds(netnsId: string): Promise<boolean> {
    const known = this.#found.get(netnsId);
    if (!known) return false;
    const ids = await Promise.all(known.map((pid) => this.#netnsOf(pid)));
    return ids.every((id) => id === netnsId);
  }

  async #scan(): Promise<void> {
    const names = await readdir(this.#proc).catch(() => []);
    const pids = names.filter((name) => /^\d+$/u.test(name)).sort((a, b) => Number(a) - Number(b));
    const found = new Map<string, string[]>();
    for (let i = 0; i < pids.length; i += BATCH) {
      const batch = pids.slice(i, i + BATCH);
      const ids = await Promise.all(batch.map((pid) => this.#netnsOf(pid)));
      for (const [index, pid] of batch.entries()) {
        const id = ids[index];
        if (id === undefined) continue;
        const kept = found.get(id) ?? [];
        if (kept.length < MAX_KEPT) found.set(id, [...kept, pid]);
      }
    }
    this.#found = found;
  }

  /** Undefined for a process that is gone, or that we may not look at. */
  async #netnsOf(pid: string): Promise<string | undefined> {
    try {
      const { dev, ino } = await stat(join(this.#proc, pid, 'ns/net'), { bigint: true });
      return `${dev}:${ino}`;
    } catch {
      return undefined;
    }
  }
}
