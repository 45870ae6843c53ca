// Memory after a burst: V8 collects when something is allocated, so a thread that has become quiet would keep its garbage, up to the whole
// young generation, until it is busy again.
import { trimMalloc } from '../os/footprint.ts';
import { releaseGarbage, releaseAllMemory } from './start-memory.ts';

/** Between two looks, ms. */
const LOOK = 3000;
/** CPU between two looks above which a thread is busy, us: 2 %. */
const BUSY = 60_000;

/** Says once after each busy time that the quiet has lasted for so many looks. */
export class QuietWatch {
  readonly #looks: number;
  #before: number;
  #quiet = 0;
  #due = true;

  /** `cpu` is what was used until now, us; the time before counts as busy. */
  constructor(looks: number, cpu: number) {
    this.#looks = looks;
    this.#before = cpu;
  }

  look(cpu: number): boolean {
    const busy = cpu - this.#before > BUSY;
    this.#before = cpu;
    this.#quiet = busy ? 0 : this.#quiet + 1;
    this.#due ||= busy;
    if (!this.#due || this.#quiet < this.#looks) return false;
    this.#due = false;
    return true;
  }

  /** What the release itself took is no work. */
  skip(cpu: number): void {
    this.#before = cpu;
  }
}

export interface QuietOptions {
  /** Microseconds of CPU so far, of what is to be quiet. */
  readonly cpu: () => number;
  /** How long it must be, in looks of 3 s. */
  readonly looks: number;
  /** Once, when the start is over and nothing that it left has been collected yet. */
  readonly settled?: (() => void) | undefined;
  /** Once, after what the start left in this thread was collected. */
  readonly giveBack?: (() => void) | undefined;
  readonly onError: (error: unknown) => void;
}

/**
 * The first quiet ends the start: everything that it left goes, code that ran once included. Later ones collect garbage alone: with the
 * code of a busy time gone, the next one took a quarter more CPU for each connection. A collection takes 20 to 50 ms, in which nothing
 * else runs: hence only when nothing does. Keeps no process alive.
 */
export function releaseWhenQuiet({ cpu, looks, settled, giveBack, onError }: QuietOptions): void {
  const watch = new QuietWatch(looks, cpu());
  let started = false;
  const release = async (): Promise<void> => {
    if (started) await releaseGarbage();
    else {
      started = true;
      settled?.();
      await releaseAllMemory();
      giveBack?.();
    }
    trimMalloc();
    watch.skip(cpu());
  };
  setInterval(() => {
    if (watch.look(cpu())) release().catch(onError);
  }, LOOK).unref();
}

export function threadCpu(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

export function processCpu(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}
