// epoll(7), level-triggered: which of many descriptors are ready. Events carry an id of ours rather than the descriptor, because a
// descriptor closed in a turn may be another connection's before the turn is over.
import { EPOLL, EPOLL_EVENT } from './layout.ts';
import { check, libc } from './syscalls.ts';

const MAX_EVENTS = 256;

export class Epoll {
  /** Itself readable when an event waits, so that another loop can hold it. */
  readonly fd: number;
  /** How many events the last wait() brought. */
  ready = 0;
  readonly #events = Buffer.alloc(MAX_EVENTS * EPOLL_EVENT.size);
  readonly #event = Buffer.alloc(EPOLL_EVENT.size);

  constructor() {
    this.fd = check(libc().epoll_create1(EPOLL.CLOEXEC), 'create an epoll instance', 'epoll_create1');
  }

  add(fd: number, id: number, mask: number): void {
    check(this.#control(EPOLL.CTL_ADD, fd, id, mask), `watch descriptor ${fd}`, 'epoll_ctl');
  }

  modify(fd: number, id: number, mask: number): void {
    check(this.#control(EPOLL.CTL_MOD, fd, id, mask), `watch descriptor ${fd}`, 'epoll_ctl');
  }

  remove(fd: number): void {
    this.#control(EPOLL.CTL_DEL, fd, 0, 0);
  }

  /** Waits up to `timeout` ms (-1: for ever, 0: not at all) and calls back for each event; returns how many there were. */
  wait(timeout: number, onEvent: (id: number, mask: number) => void): number {
    const count = libc().epoll_wait(this.fd, this.#events, MAX_EVENTS, timeout);
    this.ready = Math.max(0, count);
    for (let i = 0; i < count; i++) {
      const at = i * EPOLL_EVENT.size;
      onEvent(this.#events.readUInt32LE(at + EPOLL_EVENT.data), this.#events.readUInt32LE(at));
    }
    return this.ready;
  }

  close(): void {
    libc().close(this.fd);
  }

  #control(operation: number, fd: number, id: number, mask: number): number {
    this.#event.writeUInt32LE(mask, 0);
    this.#event.writeUInt32LE(id, EPOLL_EVENT.data);
    return libc().epoll_ctl(this.fd, operation, fd, this.#event);
  }
}
