// The listening sockets of a pod as the main thread holds them. It binds them and keeps them, workers get descriptors of their own: a
// worker that ends leaves the queue of its socket to the next one, and no connection is refused meanwhile.
import type { ListeningSocket } from '#shared/reactor/api.ts';
import { duplicate, listenTcp, stopListening } from '#shared/os/socket-factory.ts';
import type { ZtunnelConfig } from '../config.ts';
import { POD_PORTS, podListenOptions } from '../proxy/proxy-set.ts';

export class PodSockets implements Disposable {
  /** One set for each worker, between which the kernel spreads connections; or one that all share, where ports may not be shared. */
  readonly #sets: ReadonlyMap<number, ListeningSocket>[] = [];

  /** Binds every port in the namespace; throws when one is taken or the namespace is gone. */
  constructor(config: ZtunnelConfig, netns: number, workers: number) {
    using cleanup = new DisposableStack();
    cleanup.use(this);
    const sets = config.inpodPortReuse ? workers : 1;
    for (let i = 0; i < sets; i++) {
      const sockets = new Map<number, ListeningSocket>();
      this.#sets.push(sockets);
      for (const port of POD_PORTS) sockets.set(port, listenTcp(podListenOptions(config, netns, port)));
    }
    cleanup.move();
  }

  /** Descriptors for a worker to own, by port. */
  for(worker: number): Map<number, ListeningSocket> {
    const sockets = new Map<number, ListeningSocket>();
    for (const [port, socket] of this.#sets[worker % this.#sets.length] ?? [])
      sockets.set(port, { ...socket, fd: duplicate(socket.fd) });
    return sockets;
  }

  /** Nothing listens any more, in no thread. */
  [Symbol.dispose](): void {
    for (const sockets of this.#sets.splice(0)) for (const { fd } of sockets.values()) stopListening(fd);
  }
}
