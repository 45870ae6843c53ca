// Threads of data workers before they have work. The first ones are made at the very start of the process, so that they load their code while
// the main thread loads its own.
import { Worker } from 'node:worker_threads';

const ENTRY = new URL('../worker.ts', import.meta.url);
/** Three semi-spaces of 16 MB: what connections allocate dies before it is copied. */
const YOUNG = { maxYoungGenerationSizeMb: 48 };

export class WorkerThreads {
  readonly #ready = new Map<number, Worker>();

  /** Makes the first `count` threads. An error while they load is one of the process until somebody takes them. */
  prepare(count: number): void {
    for (let index = 0; index < count; index++) this.#ready.set(index, newThread(index));
  }

  /** A thread that waits for its WorkerStart, which must be its first message. */
  take(index: number): Worker {
    const ready = this.#ready.get(index);
    this.#ready.delete(index);
    return ready ?? newThread(index);
  }
}

function newThread(index: number): Worker {
  // No arguments of the process: what it preloads for itself (a debugger, a test runner) would be loaded in every worker.
  return new Worker(ENTRY, { name: `data-${index}`, execArgv: [], resourceLimits: YOUNG });
}
