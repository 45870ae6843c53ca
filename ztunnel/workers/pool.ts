// The data plane in worker threads, seen from the main thread: tells them of the mesh, of certificates and of pods, and reads what they
// count.
import type { Clock } from '#shared/clock.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import type { NetnsFd } from '#shared/reactor/api.ts';
import type { Readiness } from '#shared/lifecycle/readiness.ts';
import { FollowedNumbers } from '#shared/telemetry/followed-numbers.ts';
import type { Log, Logging } from '#shared/telemetry/log.ts';
import type { Family, Metrics } from '#shared/telemetry/metrics.ts';
import type { ProfileSource } from '#shared/telemetry/profile-source.ts';
import type { CertificateFeed } from '../certificates.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { PodProxy } from '../inpod/pod-manager.ts';
import type { Demand } from '../state/on-demand.ts';
import type { MeshStore } from '../state/store.ts';
import type { HandedRelay } from '../proxy/relay-book.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { DataPlane } from './data-plane.ts';
import type { PodSockets } from './pod-sockets.ts';
import type { ConnectionView, ToWorker, WorkerStart } from './protocol.ts';
import { WorkerSlot } from './slot.ts';
import { SocketKeeper } from './socket-keeper.ts';
import { WorkerThreads } from './threads.ts';

/** Descriptors above this number are not closed for a worker that could not do it itself. */
const MAX_NOTED = 1 << 20;

export interface WorkerPoolDeps {
  readonly config: ZtunnelConfig;
  readonly store: MeshStore;
  readonly certificates: CertificateSource;
  readonly demand?: Demand | undefined;
  readonly feed: CertificateFeed;
  readonly metrics: Metrics;
  readonly logging: Logging;
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly maxConnections: number;
  /** One cell over shared memory, 1 while memory is short. */
  readonly short: Int32Array;
  /** The limit of open descriptors. */
  readonly openFiles: number;
  /** Some may be loading already. */
  readonly threads?: WorkerThreads | undefined;
}

interface PlacedPod {
  readonly uid: string;
  readonly who: PodIdentity;
  readonly netns: NetnsFd;
  readonly sockets: PodSockets;
}

/** What follows is true once `started` has resolved; pods that come before wait for it. */
export function startWorkers(deps: WorkerPoolDeps, count: number): DataPlane {
  const pool = new WorkerPool(deps, count);
  pool.run();
  return pool;
}

class WorkerPool implements DataPlane {
  readonly sockets: SocketKeeper;
  readonly #deps: WorkerPoolDeps;
  readonly #log: Log;
  readonly #slots: readonly WorkerSlot[];
  readonly #pods = new Map<string, PlacedPod>();
  readonly #held: Int32Array;
  readonly #numbers: FollowedNumbers;
  readonly #restarts: Family;
  readonly #blockers = new Map<number, Disposable>();
  readonly #follow = new DisposableStack();
  /** Relays given to workers so far. */
  #resumed = 0;
  readonly #threads: WorkerThreads;
  #started: Promise<void> = Promise.resolve();

  constructor(deps: WorkerPoolDeps, count: number) {
    this.#deps = deps;
    this.#threads = deps.threads ?? new WorkerThreads();
    this.sockets = new SocketKeeper(deps.config, count);
    this.#log = deps.logging.scope('workers');
    this.#held = new Int32Array(new SharedArrayBuffer(count * Int32Array.BYTES_PER_ELEMENT));
    this.#numbers = new FollowedNumbers(deps.metrics);
    this.#restarts = deps.metrics.counter('culvert_worker_restarts_total', 'Data workers that ended and were replaced');
    this.#restarts.cell();
    this.#slots = Array.from({ length: count }, (_, index) => this.#slot(index));
  }

  get started(): Promise<void> {
    return this.#started;
  }

  get backend(): 'native' | 'portable' {
    return this.#slots[0]?.backend ?? 'portable';
  }

  get workers(): number {
    return this.#slots.length;
  }

  /** From here on no change is missed: workers are started with what is known now, and told what comes. */
  run(): void {
    const { store, feed, logging, metrics } = this.#deps;
    this.#follow.defer(store.onChange((changes) => this.#tellAll({ kind: 'state', changes })));
    this.#follow.defer(feed.follow((identity, certificate) => this.#tellAll({ kind: 'certificate', identity, certificate })));
    logging.filter.onChange = () => this.#tellAll({ kind: 'log-levels', levels: logging.filter.toString() });
    metrics.beforeRender(() => this.#numbers.read());
    this.#started = Promise.all(this.#slots.map((slot) => slot.start())).then(() => undefined);
    // Who waits for it is told, also later.
    this.#started.catch(() => undefined);
  }

  async start(uid: string, who: PodIdentity, netns: NetnsFd, ports?: readonly number[]): Promise<PodProxy> {
    const pod: PlacedPod = { uid, who, netns, sockets: this.sockets.open(uid, netns, ports) };
    try {
      await Promise.all(
        this.#slots.map(async (slot, index) => {
          await slot.up();
          await this.#place(slot, index, pod);
        }),
      );
    } catch (thrown) {
      await this.#stop(pod, 0);
      throw thrown;
    }
    this.#pods.set(uid, pod);
    return { stop: (deadline) => this.#stop(pod, deadline) };
  }

  async connections(): Promise<readonly ConnectionView[]> {
    const views = await Promise.all(this.#slots.map((slot) => slot.ask({ kind: 'connections' }).catch(() => [])));
    return views.flat();
  }

  async takeRelays(): Promise<readonly HandedRelay[]> {
    const taken = await Promise.all(this.#slots.map((slot) => slot.ask({ kind: 'take-relays' }).catch(() => [])));
    return taken.flat();
  }

  /** Each worker in turn. */
  resumeRelay(relay: HandedRelay): void {
    this.#slots[this.#resumed++ % this.#slots.length]?.send({ kind: 'resume-relay', relay });
  }

  profiles(worker: number): ProfileSource | undefined {
    const slot = this.#slots[worker];
    return (
      slot && {
        cpu: (seconds, frequency) => slot.ask({ kind: 'cpu-profile', seconds, frequency }),
        heap: () => slot.ask({ kind: 'heap-snapshot' }),
      }
    );
  }

  collectGarbage(all: boolean): void {
    this.#tellAll({ kind: 'collect-garbage', all });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#follow.dispose();
    this.#deps.logging.filter.onChange = () => undefined;
    await Promise.all(this.#slots.map((slot) => slot.stop()));
    this.sockets[Symbol.dispose]();
  }

  #slot(index: number): WorkerSlot {
    const { certificates, clock, demand, logging, readiness } = this.#deps;
    const slot: WorkerSlot = new WorkerSlot({
      index,
      clock,
      log: this.#log,
      thread: () => this.#threads.take(index),
      start: () => this.#startOf(index),
      onStarted: async () => {
        await Promise.all(Array.from(this.#pods.values(), (pod) => this.#place(slot, index, pod)));
        this.#blockers.get(index)?.[Symbol.dispose]();
        this.#blockers.delete(index);
      },
      onLost: () => {
        this.#restarts.add(1);
        this.#numbers.forget(index);
        Atomics.store(this.#held, index, 0);
        if (!this.#blockers.has(index)) this.#blockers.set(index, readiness.block('data worker'));
      },
      serve: (message) => {
        switch (message.kind) {
          case 'need-certificate':
            return certificates.get(message.identity);
          case 'need-address':
            return demand?.fetch(message.name).then(() => undefined);
          case 'numbers':
            this.#numbers.hear(index, message.news);
            return undefined;
          case 'log':
            logging.relay(message.text);
            return undefined;
        }
      },
    });
    return slot;
  }

  #startOf(index: number): WorkerStart {
    const { config, logging, maxConnections, short, store } = this.#deps;
    return {
      config,
      index,
      held: this.#held,
      short,
      maxConnections,
      ledger: new Uint8Array(new SharedArrayBuffer(Math.min(this.#deps.openFiles, MAX_NOTED))),
      logFormat: logging.format,
      logLevels: logging.filter.toString(),
      logTo: logging.toStdout ? 'stdout' : 'main',
      seed: store.seed,
      state: [...store.snapshot()],
    };
  }

  async #place(slot: WorkerSlot, index: number, { uid, who, netns, sockets }: PlacedPod): Promise<void> {
    await slot.ask({ kind: 'start-pod', pod: { uid, who, netns, sockets: sockets.for(index) } });
  }

  /** Resolves when no worker has a connection of the pod any more. */
  async #stop({ uid, sockets }: PlacedPod, deadline: number): Promise<void> {
    this.#pods.delete(uid);
    this.sockets.close(uid, sockets);
    await Promise.all(
      // With a worker that ends meanwhile its connections have ended too.
      this.#slots.map((slot) => slot.ask({ kind: 'stop-pod', uid, deadline }).catch(() => undefined)),
    );
  }

  #tellAll(message: ToWorker): void {
    for (const slot of this.#slots) slot.send(message);
  }
}
