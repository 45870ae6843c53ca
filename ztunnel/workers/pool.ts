// The data plane in worker threads, seen from the main thread: tells them of the mesh and of pods.
import { closeFd } from '#shared/os/netns.ts';
import type { NetnsFd } from '#shared/reactor/api.ts';
import type { ProfileSource } from '#shared/telemetry/profile-source.ts';
import type { WorkerGroupDeps } from '#shared/workers/group.ts';
import { WorkerGroup } from '#shared/workers/group.ts';
import type { CommonStart } from '#shared/workers/protocol.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { PodProxy } from '../inpod/pod-manager.ts';
import type { HandedRelay } from '../proxy/relay-book.ts';
import type { Demand } from '../state/on-demand.ts';
import type { MeshStore } from '../state/store.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { DataPlane } from './data-plane.ts';
import type { PodSockets } from './pod-sockets.ts';
import type { Answers, ConnectionView, FromWorker, ToWorker, WorkerStart } from './protocol.ts';
import { SocketKeeper } from './socket-keeper.ts';

export interface WorkerPoolDeps extends WorkerGroupDeps {
  readonly config: ZtunnelConfig;
  readonly store: MeshStore;
  readonly demand?: Demand | undefined;
  readonly maxConnections: number;
  /** One cell over shared memory, 1 while memory is short. */
  readonly short: Int32Array;
}

interface PlacedPod {
  readonly uid: string;
  readonly who: PodIdentity;
  readonly netns: NetnsFd;
  readonly sockets: PodSockets;
  /** By worker: its generation, and the answer of it. */
  readonly placed: Map<number, { readonly generation: number; readonly done: Promise<unknown> }>;
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
  readonly #group: WorkerGroup<FromWorker, ToWorker, Answers>;
  readonly #pods = new Map<string, PlacedPod>();
  #unfollow = (): void => undefined;
  /** Relays given to workers so far. */
  #resumed = 0;

  constructor(deps: WorkerPoolDeps, count: number) {
    this.#deps = deps;
    this.sockets = new SocketKeeper(deps.config, count);
    this.#group = new WorkerGroup(deps, count, {
      start: (common) => this.#startOf(common),
      onStarted: async (index) => {
        await Promise.all(Array.from(this.#pods.values(), (pod) => this.#place(index, pod)));
      },
      async serve(_index, message) {
        if (message.kind === 'need-address') await deps.demand?.fetch(message.name);
        else await deps.demand?.renew(message.service, message.address);
      },
    });
  }

  get started(): Promise<void> {
    return this.#group.started;
  }

  get backend(): 'native' | 'portable' {
    return this.#group.backend;
  }

  get workers(): number {
    return this.#group.slots.length;
  }

  /** From here on no change is missed: workers are started with what is known now, and told what comes. */
  run(): void {
    this.#unfollow = this.#deps.store.onChange((changes) => this.#group.tellAll({ kind: 'state', changes }));
    this.#group.run();
  }

  async start(uid: string, who: PodIdentity, netns: NetnsFd, ports?: readonly number[]): Promise<PodProxy> {
    const pod: PlacedPod = { uid, who, netns, sockets: this.sockets.open(uid, netns, ports), placed: new Map() };
    // A worker that is replaced while others still start the pod gets it too.
    this.#pods.set(uid, pod);
    try {
      await Promise.all(
        this.#group.slots.map(async (slot, index) => {
          await slot.up();
          await this.#place(index, pod);
        }),
      );
    } catch (thrown) {
      await this.#stop(pod, 0);
      throw thrown;
    }
    return { stop: (deadline) => this.#stop(pod, deadline) };
  }

  async connections(): Promise<readonly ConnectionView[]> {
    const views = await Promise.all(this.#group.slots.map((slot) => slot.ask({ kind: 'connections' }).catch(() => [])));
    return views.flat();
  }

  async takeRelays(): Promise<readonly HandedRelay[]> {
    const taken = await Promise.all(this.#group.slots.map((slot) => slot.ask({ kind: 'take-relays' }).catch(() => [])));
    return taken.flat();
  }

  /** Each worker in turn. Without any, both ends see that it is over. */
  resumeRelay(relay: HandedRelay): void {
    const { slots } = this.#group;
    for (const _ of slots) if (slots[this.#resumed++ % slots.length]?.send({ kind: 'resume-relay', relay })) return;
    for (const { fd } of [relay.downstream, relay.upstream]) closeFd(fd);
  }

  profiles(worker: number): ProfileSource | undefined {
    return this.#group.profiles(worker);
  }

  collectGarbage(all: boolean): void {
    this.#group.tellAll({ kind: 'collect-garbage', all });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unfollow();
    await this.#group.stop();
    this.sockets[Symbol.dispose]();
  }

  #startOf(common: CommonStart): WorkerStart {
    const { config, maxConnections, short, store } = this.#deps;
    return { ...common, config, short, maxConnections, seed: store.seed, state: [...store.snapshot()] };
  }

  /** Each worker is told once. */
  async #place(index: number, { uid, who, netns, sockets, placed }: PlacedPod): Promise<void> {
    const slot = this.#group.slots[index];
    if (!slot) return;
    const { generation } = slot;
    let known = placed.get(index);
    if (known?.generation !== generation) {
      const pod = { uid, who, netns, sockets: sockets.for(index) };
      known = { generation, done: slot.ask({ kind: 'start-pod', pod }) };
      placed.set(index, known);
    }
    await known.done;
  }

  /** Resolves when no worker has a connection of the pod any more. */
  async #stop({ uid, sockets }: PlacedPod, deadline: number): Promise<void> {
    this.#pods.delete(uid);
    this.sockets.close(uid, sockets);
    await Promise.all(
      // With a worker that ends meanwhile its connections have ended too.
      this.#group.slots.map((slot) => slot.ask({ kind: 'stop-pod', uid, deadline }).catch(() => undefined)),
    );
  }
}
