// Accepting connections: up to a batch a turn, so that a flood of them leaves time for those that are open.
import type { HostPort } from '../../address.ts';
import { EPOLL, ERRNO } from '../../os/layout.ts';
import { acceptTcp, localAddress, type AcceptedSocket, type ListeningSocket } from '../../os/socket-factory.ts';
import { errno, libc } from '../../os/syscalls.ts';
import type { Listener } from '../api.ts';
import type { Loop, Watch } from './loop.ts';

const BATCH = 64;
/** Milliseconds until the next try at the limit of open descriptors: until then the peers wait in the queue. */
const PAUSE = 100;

export class NativeListener implements Listener, Watch {
  readonly address: HostPort;
  readonly transparent: boolean;
  readonly #fd: number;
  readonly #loop: Loop;
  readonly #onAccept: (socket: AcceptedSocket, local: HostPort) => void;
  readonly #watchId: number;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    loop: Loop,
    { fd, address, transparent }: ListeningSocket,
    onAccept: (socket: AcceptedSocket, local: HostPort) => void,
  ) {
    this.#loop = loop;
    this.#fd = fd;
    this.address = address;
    this.transparent = transparent;
    this.#onAccept = onAccept;
    this.#watchId = loop.watch(fd, EPOLL.IN, this);
  }

  onEvents(): void {
    for (let i = 0; i < BATCH && !this.#closed; i++) {
      const socket = acceptTcp(this.#fd);
      if (!socket) return this.#pauseUnlessEmpty(errno());
      this.#onAccept(socket, localAddress(socket.fd) ?? this.address);
    }
    return undefined;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#loop.unwatch(this.#fd, this.#watchId);
    libc().close(this.#fd);
  }

  #pauseUnlessEmpty(code: number): void {
    if (code === ERRNO.EAGAIN || code === ERRNO.EINTR || code === ERRNO.ECONNABORTED) return;
    this.#loop.change(this.#fd, this.#watchId, 0);
    this.#timer = setTimeout(() => {
      if (!this.#closed) this.#loop.change(this.#fd, this.#watchId, EPOLL.IN);
    }, PAUSE);
  }
}
