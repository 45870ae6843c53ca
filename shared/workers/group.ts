// The data workers of a program, seen from its main thread: started, replaced when they end, told of certificates and log levels; what they
// count is read, what they log is passed on. What they serve is their program's.
import type { Clock } from '../clock.ts';
import type { CertificateSource } from '../identity/certificate.ts';
import type { Readiness } from '../lifecycle/readiness.ts';
import { FollowedNumbers } from '../telemetry/followed-numbers.ts';
import type { Logging } from '../telemetry/log.ts';
import type { Family, Metrics } from '../telemetry/metrics.ts';
import type { ProfileSource } from '../telemetry/profile-source.ts';
import type { CertificateFeed } from './certificate-feed.ts';
import type { Kind } from './channel.ts';
import type { CommonAnswers, CommonStart, FromAnyWorker, ToAnyWorker } from './protocol.ts';
import { WorkerSlot } from './slot.ts';
import type { WorkerThreads } from './threads.ts';
import { WorkerWatch } from './watch.ts';
import type { WatchTimes } from './watch.ts';

/** Descriptors above this number are not closed for a worker that could not do it itself. */
const MAX_NOTED = 1 << 20;

export interface WorkerGroupDeps {
  readonly certificates: CertificateSource;
  readonly feed: CertificateFeed;
  readonly metrics: Metrics;
  readonly logging: Logging;
  readonly readiness: Readiness;
  readonly clock: Clock;
  /** The limit of open descriptors. */
  readonly openFiles: number;
  /** Some may be loading already. */
  readonly threads: WorkerThreads;
  /** Until a worker that does not answer is given up; default as in watch.ts. */
  readonly watch?: WatchTimes | undefined;
}

/** What the program does for its workers. */
export interface WorkerTasks<In extends Kind> {
  /** What a worker that starts now must know. */
  start(common: CommonStart): CommonStart;
  /** The worker runs; rejects when it cannot be given what it is to serve. */
  onStarted(index: number): Promise<void>;
  /** A message of the program's own; returns the answer of a request. */
  serve(index: number, message: In): unknown;
}

/** `In`, `Out` and `Answers`: what the program adds to the messages of any worker. */
export class WorkerGroup<In extends Kind, Out extends Kind, Answers> {
  /** Connections that each worker has. */
  readonly held: Int32Array;
  readonly slots: readonly WorkerSlot<In | FromAnyWorker, Out | ToAnyWorker, Answers & CommonAnswers>[];
  readonly #deps: WorkerGroupDeps;
  readonly #tasks: WorkerTasks<In>;
  readonly #numbers: FollowedNumbers;
  readonly #restarts: Family;
  readonly #blockers = new Map<number, Disposable>();
  readonly #watches = new Map<number, WorkerWatch>();
  readonly #follow = new DisposableStack();
  #started: Promise<void> = Promise.resolve();

  constructor(deps: WorkerGroupDeps, count: number, tasks: WorkerTasks<In>) {
    this.#deps = deps;
    this.#tasks = tasks;
    this.held = new Int32Array(new SharedArrayBuffer(count * Int32Array.BYTES_PER_ELEMENT));
    this.#numbers = new FollowedNumbers(deps.metrics);
    this.#restarts = deps.metrics.counter('culvert_worker_restarts_total', 'Data workers that ended and were replaced');
    this.#restarts.cell();
    deps.metrics.gauge('culvert_worker_connections', 'Connections that a data worker has', ['worker'], (family) => {
      for (const [index, count] of this.held.entries()) family.cell(String(index)).value = count;
    });
    this.slots = Array.from({ length: count }, (_, index) => this.#slot(index));
  }

  /** Resolves when all run; rejects with what one of them ended of. */
  get started(): Promise<void> {
    return this.#started;
  }

  get backend(): 'native' | 'portable' {
    return this.slots[0]?.backend ?? 'portable';
  }

  /** Starts them; they are told what comes from here on. */
  run(): void {
    const { feed, logging, metrics } = this.#deps;
    this.#follow.defer(feed.follow((identity, certificate) => this.tellAll({ kind: 'certificate', identity, certificate })));
    logging.filter.onChange = () => this.tellAll({ kind: 'log-levels', levels: logging.filter.toString() });
    this.#follow.defer(() => (logging.filter.onChange = () => undefined));
    metrics.beforeRender(() => this.#numbers.read());
    this.#started = Promise.all(this.slots.map((slot) => slot.start())).then(() => undefined);
    // Who waits for it is told, also later.
    this.#started.catch(() => undefined);
  }

  tellAll(message: Out | ToAnyWorker): void {
    for (const slot of this.slots) slot.send(message);
  }

  /** Of a worker; undefined when there is none of the number. */
  profiles(index: number): ProfileSource | undefined {
    const slot = this.slots[index];
    return (
      slot && {
        cpu: (seconds, frequency) => slot.ask({ kind: 'cpu-profile', seconds, frequency }),
        heap: () => slot.ask({ kind: 'heap-snapshot' }),
      }
    );
  }

  /** Ends all for good. */
  async stop(): Promise<void> {
    this.#follow.dispose();
    await Promise.all(this.slots.map((slot) => slot.stop()));
    // Also of one that began to serve meanwhile.
    for (const watch of this.#watches.values()) watch[Symbol.dispose]();
  }

  #slot(index: number): WorkerGroup<In, Out, Answers>['slots'][number] {
    const { clock, logging, threads } = this.#deps;
    return new WorkerSlot({
      index,
      clock,
      log: logging.scope('workers'),
      thread: () => threads.take(index),
      start: () => this.#tasks.start(this.#common(index)),
      onStarted: async () => {
        await this.#tasks.onStarted(index);
        this.#unblock(index);
        this.#watches.set(index, this.#watch(index));
      },
      onLost: () => {
        this.#watches.get(index)?.[Symbol.dispose]();
        this.#restarts.add(1);
        this.#numbers.forget(index);
        Atomics.store(this.held, index, 0);
        this.#block(index);
      },
      serve: (message) => this.#serve(index, message),
    });
  }

  #watch(index: number): WorkerWatch {
    const { clock, logging, watch } = this.#deps;
    const log = logging.scope('workers');
    const slot = this.slots[index];
    const options = {
      clock,
      ask: async () => slot?.ask({ kind: 'ping' }),
      onSilent: () => {
        log.warn('data worker does not answer', { worker: index });
        this.#block(index);
      },
      onHeard: () => {
        log.info('data worker answers again', { worker: index });
        this.#unblock(index);
      },
      onHung: () => {
        log.error('data worker hangs and is ended', { worker: index });
        slot?.replace();
      },
    };
    return new WorkerWatch(options, watch);
  }

  /** Not ready while a worker serves nobody. */
  #block(index: number): void {
    if (!this.#blockers.has(index)) this.#blockers.set(index, this.#deps.readiness.block('data worker'));
  }

  #unblock(index: number): void {
    this.#blockers.get(index)?.[Symbol.dispose]();
    this.#blockers.delete(index);
  }

  #common(index: number): CommonStart {
    const { logging, openFiles } = this.#deps;
    // Others may have given it connections since the worker before it ended.
    Atomics.store(this.held, index, 0);
    return {
      index,
      held: this.held,
      ledger: new Uint8Array(new SharedArrayBuffer(Math.min(openFiles, MAX_NOTED))),
      logFormat: logging.format,
      logLevels: logging.filter.toString(),
      logTo: logging.toStdout ? 'stdout' : 'main',
    };
  }

  #serve(index: number, message: In | FromAnyWorker): unknown {
    const { certificates, logging } = this.#deps;
    const common = message as FromAnyWorker;
    switch (common.kind) {
      case 'need-certificate':
        return certificates.get(common.identity);
      case 'numbers':
        return this.#numbers.hear(index, common.news);
      case 'log':
        return logging.relay(common.text);
      default:
        return this.#tasks.serve(index, message as In);
    }
  }
}
