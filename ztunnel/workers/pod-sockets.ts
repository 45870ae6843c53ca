// The listening sockets of a pod as the main thread holds them. It binds them, or is given them by the ztunnel that ran before, and keeps
// them; workers get descriptors of their own: a worker that ends leaves the queue of its socket to the next one, and no connection is
// refused meanwhile.
import type { ListeningSocket, NetnsFd } from '#shared/reactor/api.ts';
import { closeFd } from '#shared/os/netns.ts';
import { duplicate, listenTcp, stopListening } from '#shared/os/socket-factory.ts';
import type { ZtunnelConfig } from '../config.ts';
import { podListenOptions } from '../proxy/proxy-set.ts';

/** Sockets by port. */
export type SocketSet = ReadonlyMap<number, ListeningSocket>;

/** What the ztunnel that ran before listened on. */
export interface GivenSockets {
  readonly sets: readonly SocketSet[];
  /** More may be bound beside them. */
  readonly reuse: boolean;
}

export interface PodSocketsPlan {
  readonly netns: NetnsFd;
  readonly ports: readonly number[];
  readonly workers: number;
  readonly given?: GivenSockets | undefined;
}

export class PodSockets {
  /** One for each worker, between which the kernel spreads connections; one that all share, where ports may not be shared. */
  readonly #sets: SocketSet[] = [];
  readonly #workers: number;
  readonly #ports: readonly number[];

  /**
   * Binds every port in the namespace, for workers that nothing was given for; throws when one is taken or the namespace is gone. Owns
   * what it was given.
   */
  constructor(config: ZtunnelConfig, { netns, ports, workers, given }: PodSocketsPlan) {
    this.#workers = workers;
    this.#ports = ports;
    this.#sets.push(...(given?.sets ?? []));
    const wanted = config.inpodPortReuse && given?.reuse !== false ? workers : 1;
    using cleanup = new DisposableStack();
    cleanup.defer(() => this.leave());
    for (let index = 0; index < Math.max(wanted, given?.sets.length ?? 0); index++) {
      const sockets = new Map(this.#sets[index]);
      this.#sets[index] = sockets;
      for (const port of this.#ports) if (!sockets.has(port)) sockets.set(port, listenTcp(podListenOptions(config, netns, port)));
      for (const [port, { fd }] of sockets) {
        // The ztunnel before had a listener that is switched off now.
        if (this.#ports.includes(port)) continue;
        sockets.delete(port);
        stopListening(fd);
      }
    }
    cleanup.move();
  }

  get sets(): readonly SocketSet[] {
    return this.#sets;
  }

  /**
   * Descriptors for a worker to own, by port. The kernel spreads connections over all sets, so with more sets than workers each of them
   * serves several: one that nobody accepts from would keep its connections waiting for ever.
   */
  for(worker: number): Map<number, ListeningSocket[]> {
    const count = this.#sets.length;
    const own = this.#sets.filter((_, set) => (count > this.#workers ? set % this.#workers === worker : set === worker % count));
    const sockets = new Map<number, ListeningSocket[]>();
    for (const port of this.#ports)
      sockets.set(
        port,
        own.flatMap((set) => set.get(port) ?? []).map((socket) => ({ ...socket, fd: duplicate(socket.fd) })),
      );
    return sockets;
  }

  /** Nothing listens any more, in no thread. */
  end(): void {
    this.#drop(stopListening);
  }

  /** Lets go of the sockets without ending them: whoever else has them goes on listening, and their queues are kept. */
  leave(): void {
    this.#drop(closeFd);
  }

  #drop(close: (fd: number) => void): void {
    for (const sockets of this.#sets.splice(0)) for (const { fd } of sockets.values()) close(fd);
  }
}
