// Which process lives in which network namespace: one look through /proc for all pods, when one is missed.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '#shared/clock.ts';

/** At most one look in so many ms: each costs a system call per process of the node. */
const PAUSE = 5000;
/** Processes that are asked for at a time. */
const BATCH = 32;

export class PodProcesses {
  readonly #proc: string;
  readonly #clock: Clock;
  #found: ReadonlyMap<string, string> = new Map();
  #look: { readonly at: number; readonly done: Promise<void> } | undefined;

  /** `proc`: where procfs is mounted. */
  constructor(clock: Clock, proc = '/proc') {
    this.#clock = clock;
    this.#proc = proc;
  }

  /** The root folder of the oldest process in the namespace, as it sees it; undefined when none is seen from here. */
  async rootOf(netnsId: string): Promise<string | undefined> {
    const known = this.#found.get(netnsId);
    if (known !== undefined && (await this.#netnsOf(known)) === netnsId) return join(this.#proc, known, 'root');
    const now = this.#clock.monotonic();
    if (!this.#look || now - this.#look.at > PAUSE) this.#look = { at: now, done: this.#scan() };
    await this.#look.done;
    const pid = this.#found.get(netnsId);
    return pid === undefined ? undefined : join(this.#proc, pid, 'root');
  }

  async #scan(): Promise<void> {
    const names = await readdir(this.#proc).catch(() => []);
    const pids = names.filter((name) => /^\d+$/u.test(name)).sort((a, b) => Number(a) - Number(b));
    const found = new Map<string, string>();
    for (let i = 0; i < pids.length; i += BATCH) {
      const batch = pids.slice(i, i + BATCH);
      const ids = await Promise.all(batch.map((pid) => this.#netnsOf(pid)));
      for (const [index, id] of ids.entries()) if (id !== undefined && !found.has(id)) found.set(id, batch[index] ?? '');
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
