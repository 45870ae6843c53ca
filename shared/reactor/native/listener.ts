// Accepting connections: up to a batch a turn, so that a flood of them leaves time for those that are open.
import { formatHostPort, type HostPort } from '../../address.ts';
import { MeshError } from '../../errors.ts';
import { EPOLL, ERRNO } from '../../os/layout.ts';
import { acceptTcp, resetOnClose, type AcceptedSocket, type ListeningSocket } from '../../os/socket-factory.ts';
import type { SpareDescriptor } from '../../os/spare-descriptor.ts';
import { errno, libc } from '../../os/syscalls.ts';
import type { Listener } from '../api.ts';
import type { Loop, Watch } from './loop.ts';

const BATCH = 64;
/** Milliseconds until the next try when the kernel has no memory or not even the spare descriptor: until then the peers wait in the queue. */
const PAUSE = 100;

/** What a listener does at the limit of open descriptors. */
export interface Shedding {
  readonly spare: SpareDescriptor;
  /** A connection was refused. */
  onShed(address: HostPort): void;
}

export class NativeListener implements Listener, Watch {
  readonly id: number;
  readonly address: HostPort;
  readonly transparent: boolean;
  readonly #fd: number;
  readonly #loop: Loop;
  readonly #onAccept: (socket: AcceptedSocket) => void;
  readonly #shedding: Shedding;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    loop: Loop,
    { fd, address, transparent }: ListeningSocket,
    onAccept: (socket: AcceptedSocket) => void,
    shedding: Shedding,
  ) {
    this.#loop = loop;
    this.#fd = fd;
    this.address = address;
    this.transparent = transparent;
    this.#onAccept = onAccept;
    this.#shedding = shedding;
    this.id = loop.newId();
    loop.own(fd);
    try {
      loop.watch(fd, EPOLL.IN, this);
    } catch (thrown) {
      this.#closeFd();
      throw thrown;
    }
  }

  onEvents(): void {
    for (let i = 0; i < BATCH && !this.#closed; i++) {
      const socket = acceptTcp(this.#fd);
      if (!socket) {
        const code = errno();
        if ((code === ERRNO.EMFILE || code === ERRNO.ENFILE) && this.#shed()) continue;
        return this.#pauseUnlessEmpty(code);
      }
      this.#onAccept(socket);
    }
    return undefined;
  }

  /** Not of a connection, those are the reactor's: what keeps failing must not keep the thread busy. */
  onFault(thrown: unknown): MeshError {
    this.#pause();
    return new MeshError('internal', `listen on ${formatHostPort(this.address)}: ${MeshError.from(thrown).message}`, {
      cause: thrown,
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#loop.unwatch(this.#fd, this);
    this.#closeFd();
  }

  #closeFd(): void {
    this.#loop.disown(this.#fd);
    libc().close(this.#fd);
  }

  /** Refuses the connection at the head of the queue; false when it had to stay there. */
  #shed(): boolean {
    let shed = false;
    this.#shedding.spare.lend(() => {
      const socket = acceptTcp(this.#fd);
      if (!socket) return;
      resetOnClose(socket.fd);
      libc().close(socket.fd);
      shed = true;
    });
    if (shed) this.#shedding.onShed(this.address);
    return shed;
  }

  #pauseUnlessEmpty(code: number): void {
    if (code !== ERRNO.EAGAIN && code !== ERRNO.EINTR && code !== ERRNO.ECONNABORTED) this.#pause();
  }

  #pause(): void {
    if (this.#closed) return;
    this.#loop.change(this.#fd, this, 0);
    this.#timer = setTimeout(() => {
      if (!this.#closed) this.#loop.change(this.#fd, this, EPOLL.IN);
    }, PAUSE);
  }
}
