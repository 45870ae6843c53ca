// The event loop of the native backend: one epoll instance, held by Node's own loop through a poll handle. Node blocks, wakes for
// whichever is ready, and a turn of this loop runs inside a turn of Node's, with its timers and promises.
import { Epoll } from '../../os/epoll.ts';
import { READABLE, UvPoll } from '../../os/uv-poll.ts';

/** Bytes that one read(2) may take: enough for bulk data, and no connection holds the others up for longer than this takes. */
const READ_SIZE = 256 * 1024;

const OUTGOING_SIZE = 128 * 1024;

export interface Watch {
  /** `mask` has the EPOLL bits. */
  onEvents(mask: number): void;
}

export class Loop {
  /** Where connections read to when their handler names no place. Valid during one callback. */
  readonly scratch = Buffer.alloc(READ_SIZE);
  readonly #outgoing: Buffer[] = [];
  readonly #epoll = new Epoll();
  readonly #poll: UvPoll;
  readonly #watches = new Map<number, Watch>();
  #nextId = 1;
  #turnDue = false;
  #inTurn = false;
  #closed = false;
  #deferred: (() => void)[] = [];

  constructor() {
    this.#poll = new UvPoll(this.#epoll.fd, () => {
      if (this.#turnDue) return;
      this.#turnDue = true;
      setImmediate(() => this.#turn());
    });
    this.#poll.start(READABLE);
    this.#poll.keepAlive(false);
  }

  /** Watches a descriptor until unwatch(); returns the id to change it by. While anything is watched the process stays alive. */
  watch(fd: number, mask: number, watch: Watch): number {
    while (this.#watches.has(this.#nextId)) this.#nextId = (this.#nextId + 1) >>> 0;
    const id = this.#nextId;
    this.#nextId = (id + 1) >>> 0;
    this.#epoll.add(fd, id, mask);
    this.#watches.set(id, watch);
    if (this.#watches.size === 1) this.#poll.keepAlive(true);
    return id;
  }

  change(fd: number, id: number, mask: number): void {
    this.#epoll.modify(fd, id, mask);
  }

  /** Before close(2) of the descriptor. Events already fetched for it are dropped. */
  unwatch(fd: number, id: number): void {
    if (!this.#watches.delete(id)) return;
    this.#epoll.remove(fd);
    if (this.#watches.size === 0) this.#poll.keepAlive(false);
  }

  /** Runs a task at the end of this turn, or in one of its own: never inside the call that asked for it. */
  defer(task: () => void): void {
    this.#deferred.push(task);
    if (this.#inTurn || this.#deferred.length > 1) return;
    setImmediate(() => this.#runDeferred());
  }

  /** Lends a buffer for ciphertext on its way down. A stack, because the transport of one TLS session may be another one. */
  lend<T>(use: (space: Buffer) => T): T {
    const space = this.#outgoing.pop() ?? Buffer.alloc(OUTGOING_SIZE);
    try {
      return use(space);
    } finally {
      this.#outgoing.push(space);
    }
  }

  close(): void {
    this.#closed = true;
    this.#poll.close();
    this.#watches.clear();
    this.#epoll.close();
  }

  #turn(): void {
    this.#turnDue = false;
    if (this.#closed) return;
    this.#inTurn = true;
    try {
      this.#epoll.wait(0, (id, mask) => this.#watches.get(id)?.onEvents(mask));
    } finally {
      this.#inTurn = false;
      this.#runDeferred();
    }
  }

  /** What the tasks themselves defer waits for the next turn, so that they cannot keep events out. */
  #runDeferred(): void {
    const tasks = this.#deferred;
    this.#deferred = [];
    for (const [index, task] of tasks.entries())
      try {
        task();
      } catch (thrown) {
        this.#deferred.push(...tasks.slice(index + 1));
        if (this.#deferred.length > 0) setImmediate(() => this.#runDeferred());
        throw thrown;
      }
  }
}
