// The listening sockets of all pods, by the uid of the pod: what a ztunnel gives to its successor, and takes from its predecessor.
import type { NetnsFd } from '#shared/reactor/api.ts';
import type { ZtunnelConfig } from '../config.ts';
import { podPorts } from '../proxy/proxy-set.ts';
import type { GivenSockets, SocketSet } from './pod-sockets.ts';
import { PodSockets } from './pod-sockets.ts';

export class SocketKeeper {
  readonly #config: ZtunnelConfig;
  readonly #workers: number;
  readonly #held = new Map<string, PodSockets>();
  /** For pods that are started next. */
  readonly #given = new Map<string, GivenSockets>();
  #handedOver = false;

  constructor(config: ZtunnelConfig, workers: number) {
    this.#config = config;
    this.#workers = workers;
  }

  /** Whether others may bind beside the sockets of this ztunnel. */
  get reuse(): boolean {
    return this.#config.inpodPortReuse;
  }

  /** The pod of the uid, which is started next, is served on these. Takes them over. */
  adopt(uid: string, given: GivenSockets): void {
    this.#given.set(uid, given);
  }

  /** The sockets of a pod: given ones, or bound now; throws when a port is taken or the namespace is gone. */
  open(uid: string, netns: NetnsFd, ports = podPorts(this.#config)): PodSockets {
    const given = this.#given.get(uid);
    this.#given.delete(uid);
    const sockets = new PodSockets(this.#config, { netns, ports, workers: this.#workers, given });
    this.#held.set(uid, sockets);
    return sockets;
  }

  setsOf(uid: string): readonly SocketSet[] {
    return this.#held.get(uid)?.sets ?? [];
  }

  /** From now on sockets are let go of, not ended: another ztunnel listens on them. */
  handOver(): void {
    this.#handedOver = true;
  }

  /** The pod is served no more; sockets of a later start of it are left alone. */
  close(uid: string, sockets: PodSockets): void {
    if (this.#held.get(uid) === sockets) this.#held.delete(uid);
    if (this.#handedOver) sockets.leave();
    else sockets.end();
  }

  /** The end of the process: whoever shares a socket keeps it. */
  [Symbol.dispose](): void {
    for (const sockets of this.#held.values()) sockets.leave();
    this.#held.clear();
  }
}
