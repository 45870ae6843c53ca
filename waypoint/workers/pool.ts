// The data plane in worker threads, seen from the main thread: binds, tells them of the configuration, and has the kernel and the workers
// themselves share connections (docs/decisions/0022-waypoint-threads.md).
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostPort } from '#shared/address.ts';
import { congestionOption } from '#shared/congestion.ts';
import type { DrainOutcome } from '#shared/lifecycle/drain.ts';
import { closeFd } from '#shared/os/netns.ts';
import { duplicate, listenTcp, stopListening } from '#shared/os/socket-factory.ts';
import { PORT } from '#shared/ports.ts';
import type { DetachedConn, ListeningSocket } from '#shared/reactor/api.ts';
import type { ProfileSource } from '#shared/telemetry/profile-source.ts';
import type { WorkerGroupDeps } from '#shared/workers/group.ts';
import { WorkerGroup } from '#shared/workers/group.ts';
import type { WaypointConfig } from '../config.ts';
import type { LogLines } from '../telemetry/log-lines.ts';
import type { ConfigChange } from '../xds/changes.ts';
import { ConfigLog } from '../xds/changes.ts';
import type { ConfigStore } from '../xds/config-store.ts';
import type { DataPlane } from './data-plane.ts';
import type { Answers, FromWorker, ToWorker, WorkerStart } from './protocol.ts';

export interface WorkerPoolDeps extends WorkerGroupDeps {
  readonly config: WaypointConfig;
  readonly store: ConfigStore;
  /** Where their access log goes, when not to standard output. */
  readonly accessLog: LogLines;
  /** One cell over shared memory, 1 while memory is short. */
  readonly short: Int32Array;
}

/** Where tunnels are to be taken. */
export function hboneAddress({ hbonePort }: WaypointConfig): HostPort {
  return { ip: '::', port: hbonePort ?? PORT.hbone };
}

/** Throws when the port is taken. */
export function startWorkers(deps: WorkerPoolDeps, count: number): DataPlane {
  const pool = new WorkerPool(deps, count);
  pool.run();
  return pool;
}

class WorkerPool implements DataPlane {
  readonly #deps: WorkerPoolDeps;
  readonly #group: WorkerGroup<FromWorker, ToWorker, Answers>;
  readonly #log = new ConfigLog();
  /** One for each worker, kept here: a worker that ends leaves the queue of its socket to the next one. */
  readonly #sockets: ListeningSocket[] = [];
  readonly address: HostPort;
  #draining = false;

  constructor(deps: WorkerPoolDeps, count: number) {
    this.#deps = deps;
    let address = hboneAddress(deps.config);
    for (let index = 0; index < count; index++) {
      const socket = listenTcp({ address, reusePort: true, ...congestionOption(deps.config.congestion) });
      this.#sockets.push(socket);
      // Of port 0 all others take the one that was found.
      address = { ...address, port: socket.address.port };
    }
    this.address = address;
    this.#group = new WorkerGroup(deps, count, {
      start: (common): WorkerStart => ({ ...common, config: deps.config, short: deps.short, changes: this.#log.all() }),
      onStarted: (index) => this.#listen(index),
      serve: (_index, message) => {
        if (message.kind === 'hand-on') this.#handOn(message.to, message.conn);
        else deps.accessLog.lines(message.lines);
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

  run(): void {
    this.#group.run();
  }

  onConfig(changes: readonly ConfigChange[]): void {
    this.#log.add(changes);
    this.#log.keep(this.#deps.store);
    this.#group.tellAll({ kind: 'config', changes });
  }

  async drain(): Promise<DrainOutcome> {
    const { minimumDrain, drainTimeout: deadline } = this.#deps.config;
    this.#group.tellAll({ kind: 'drain-http' });
    await sleep(minimumDrain);
    this.#draining = true;
    for (const { fd } of this.#sockets.splice(0)) stopListening(fd);
    // With a worker that ends meanwhile its connections have ended too.
    const ends = this.#group.slots.map((slot) => slot.ask({ kind: 'drain', deadline }).catch(() => 'forced' as const));
    return (await Promise.all(ends)).includes('forced') ? 'forced' : 'drained';
  }

  profiles(worker: number): ProfileSource | undefined {
    return this.#group.profiles(worker);
  }

  collectGarbage(all: boolean): void {
    this.#group.tellAll({ kind: 'collect-garbage', all });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#group.stop();
    for (const { fd } of this.#sockets.splice(0)) closeFd(fd);
  }

  async #listen(index: number): Promise<void> {
    const socket = this.#sockets[index];
    if (socket && !this.#draining)
      await this.#group.slots[index]?.ask({ kind: 'listen', socket: { ...socket, fd: duplicate(socket.fd) } });
  }

  /** To the worker that it is for, or, when that has just ended, to any other. */
  #handOn(to: number, conn: DetachedConn): void {
    const { slots, held } = this.#group;
    if (slots[to]?.send({ kind: 'adopt', conn })) return;
    const other = slots.findIndex((slot, index) => index !== to && slot.send({ kind: 'adopt', conn }));
    if (other === -1) closeFd(conn.fd);
    else Atomics.add(held, other, 1);
  }
}
