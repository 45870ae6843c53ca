// A worker thread and its successors: one that ends is replaced at once, and with growing delays when that goes on.
import type { Worker } from 'node:worker_threads';
import { Backoff } from '../backoff.ts';
import type { Clock, Timer } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { closeNoted } from '../os/socket-factory.ts';
import type { Log } from '../telemetry/log.ts';
import type { Kind } from './channel.ts';
import { Channel } from './channel.ts';
import type { CommonStart, FromAnyWorker, ToAnyWorker } from './protocol.ts';

const RESTART = { initial: 100, max: 5000 };
/** A worker that ran for this long, ms, owes nothing to the failures before. */
const SETTLED = 10_000;
/** How long a worker may take to close what it has, ms. */
const EXIT_TIMEOUT = 2000;

type Started = Extract<FromAnyWorker, { kind: 'started' }>;

export interface SlotOptions<In extends Kind> {
  readonly clock: Clock;
  readonly log: Log;
  readonly index: number;
  /** A thread for the next worker. */
  readonly thread: () => Worker;
  /** What it is started with. */
  readonly start: () => CommonStart;
  /** The worker runs; a successor must be given the pods. Rejects when that cannot be done. */
  readonly onStarted: () => Promise<void>;
  /** The worker is gone and another one is on its way. */
  readonly onLost: () => void;
  /** Returns the answer of a request. */
  readonly serve: (message: Exclude<In, Started>) => unknown;
}

/** `In`, `Out` and `Answers` are those of its channel. */
export class WorkerSlot<In extends Kind, Out extends Kind, Answers> {
  readonly #options: SlotOptions<In | Started>;
  readonly #backoff = new Backoff(RESTART);
  #worker: Worker | undefined;
  #channel: Channel<In | Started, Out | ToAnyWorker, Answers> | undefined;
  #up = unheeded();
  #exited = Promise.withResolvers<void>();
  #restart: Timer | undefined;
  #stopping = false;
  #generation = 0;
  #backend: 'native' | 'portable' = 'portable';

  constructor(options: SlotOptions<In | Started>) {
    this.#options = options;
  }

  get backend(): 'native' | 'portable' {
    return this.#backend;
  }

  /** Another number for each worker. */
  get generation(): number {
    return this.#generation;
  }

  /** Starts the first worker; rejects with what it ended of. */
  async start(): Promise<void> {
    const failed = this.#spawn();
    await Promise.race([this.#up.promise, failed]);
  }

  /** Resolves when a worker serves the pods; rejects when one that should have begun to has ended. */
  up(): Promise<void> {
    return this.#up.promise;
  }

  /** To the worker of this moment, also while it starts. False when there is none: its successor is started with what is known then. */
  send(message: Out | ToAnyWorker): boolean {
    this.#channel?.send(message);
    return this.#channel !== undefined;
  }

  /** Rejects when the worker ends before it has answered. */
  async ask<K extends string & keyof Answers>(message: (Out | ToAnyWorker) & { readonly kind: K }): Promise<Answers[K]> {
    if (!this.#channel) throw gone(this.#options.index);
    return await this.#channel.ask(message);
  }

  /** Ends the worker of this moment, as if it had ended by itself: another one is started. */
  replace(): void {
    void this.#worker?.terminate();
  }

  /** Ends the worker for good. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#restart?.cancel();
    this.#up.reject(gone(this.#options.index));
    if (!this.#worker) return;
    this.send({ kind: 'exit' });
    const timer = this.#options.clock.after(EXIT_TIMEOUT, () => void this.#worker?.terminate());
    await this.#exited.promise;
    timer.cancel();
  }

  /** Rejects when the worker ends. */
  #spawn(): Promise<never> {
    const { index, clock, log, serve, onStarted } = this.#options;
    const start = this.#options.start();
    const worker = this.#options.thread();
    worker.postMessage(start);
    this.#generation += 1;
    const since = clock.monotonic();
    const ended = Promise.withResolvers<never>();
    // Only the first start waits for it.
    ended.promise.catch(() => undefined);
    let error: MeshError | undefined;
    const channel = new Channel<In | Started, Out | ToAnyWorker, Answers>(worker, (message) => {
      if (!isStarted(message)) return serve(message as Exclude<In, Started>);
      this.#backend = message.backend;
      return void onStarted().then(this.#up.resolve, (thrown: unknown) => {
        // One that has died meanwhile is replaced by its exit.
        if (this.#worker !== worker) return;
        log.error('data worker cannot serve what it must', { worker: index, error: MeshError.from(thrown) });
        void worker.terminate();
      });
    });
    this.#worker = worker;
    this.#channel = channel;
    worker.on('error', (thrown) => {
      error = MeshError.from(thrown);
    });
    worker.once('exit', (code) => {
      const reason = error ?? new MeshError('internal', `exit code ${code}`);
      this.#worker = undefined;
      this.#channel = undefined;
      channel.close(gone(index));
      closeNoted(start.ledger);
      ended.reject(reason);
      if (this.#stopping) this.#exited.resolve();
      else this.#lost(reason, clock.monotonic() - since);
    });
    return ended.promise;
  }

  #lost(error: MeshError, lived: number): void {
    const { clock, log, index, onLost } = this.#options;
    const first = lived >= SETTLED;
    if (first) this.#backoff.reset();
    const delay = first ? 0 : this.#backoff.next();
    log.error('data worker ended, another one is started', {
      worker: index,
      error,
      after_ms: Math.round(lived),
      delay_ms: delay,
    });
    this.#up.reject(gone(index));
    this.#up = unheeded();
    onLost();
    this.#restart = clock.after(delay, () => void this.#spawn());
  }
}

function isStarted(message: Kind): message is Started {
  return message.kind === 'started';
}

/** Whether anybody waits or not. */
function unheeded(): PromiseWithResolvers<void> {
  const up = Promise.withResolvers<void>();
  up.promise.catch(() => undefined);
  return up;
}

function gone(index: number): MeshError {
  return new MeshError('internal', `data worker ${index} has ended`);
}
