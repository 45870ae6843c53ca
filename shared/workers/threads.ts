// Threads of data workers before they have work. The first ones are made at the very start of the process, so that they load their code while
// the main thread loads its own.
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';

/**
 * MB: what connections allocate dies before it is copied. A new thread takes the process's flag, which says what the main thread may have
 * (docs/seams.md); the limit of the thread alone can only be less.
 */
const SEMI_SPACE = 16;

export class WorkerThreads {
  readonly #ready = new Map<number, Worker>();
  readonly #entry: URL;

  /** `entry`: what they run. */
  constructor(entry: URL) {
    this.#entry = entry;
  }

  /**
   * Makes the first `count` threads, and ends what was made ahead beyond them. They keep no process alive, and an error while they load is one
   * of the process, until somebody takes them.
   */
  prepare(count: number): void {
    for (const [index, thread] of this.#ready)
      if (index >= count) {
        this.#ready.delete(index);
        void thread.terminate();
      }
    for (let index = 0; index < count; index++) {
      if (this.#ready.has(index)) continue;
      const thread = newThread(this.#entry, index);
      thread.unref();
      this.#ready.set(index, thread);
    }
  }

  /** A thread that waits for its WorkerStart, which must be its first message. */
  take(index: number): Worker {
    const ready = this.#ready.get(index);
    this.#ready.delete(index);
    ready?.ref();
    return ready ?? newThread(this.#entry, index);
  }
}

function newThread(entry: URL, index: number): Worker {
  setFlagsFromString(`--max-semi-space-size=${SEMI_SPACE}`);
  // No arguments of the process: what it preloads for itself (a debugger, a test runner) would be loaded in every worker.
  return new Worker(entry, { name: `data-${index}`, execArgv: [], resourceLimits: { maxYoungGenerationSizeMb: 3 * SEMI_SPACE } });
}
