// Waiting for a descriptor that Node has no handle for, on Node's own loop: libuv's poll handle, which the node binary exports.
// A blocked thread-pool call would do the same, but holds one of four threads and keeps the process from exiting.
import { isMainThread } from 'node:worker_threads';
import koffi from 'koffi';
import { MeshError } from '../errors.ts';
import { systemError } from './errno.ts';

const UV_POLL = 8;
const READABLE = 1;
const WRITABLE = 2;

interface Uv {
  loop: unknown;
  handleSize: number;
  init(loop: unknown, handle: Uint8Array, fd: number): number;
  start(handle: Uint8Array, events: number, callback: bigint): number;
  stop(handle: Uint8Array): number;
  close(handle: Uint8Array, callback: bigint): void;
  onPoll: bigint;
  onClose: bigint;
}

let bound: Uv | undefined;
/** By the address of the handle's memory, which must not be freed before libuv has closed the handle. */
const watchers = new Map<bigint, FdWatcher>();

function uv(): Uv {
  bound ??= bind();
  return bound;
}

function bind(): Uv {
  if (!isMainThread)
    throw new MeshError('internal', 'descriptors are watched on the main thread only: workers have their own reactor');
  const library = koffi.load(null);
  const pollCallback = koffi.pointer(koffi.proto('void', ['uintptr_t', 'int', 'int']));
  const closeCallback = koffi.pointer(koffi.proto('void', ['uintptr_t']));
  return {
    loop: library.func('void *uv_default_loop()')(),
    handleSize: library.func('size_t uv_handle_size(int)')(UV_POLL),
    init: library.func('int uv_poll_init(void *, void *, int)'),
    start: library.func('uv_poll_start', 'int', ['void *', 'int', pollCallback]),
    stop: library.func('int uv_poll_stop(void *)'),
    close: library.func('uv_close', 'void', ['void *', closeCallback]),
    // Called outside any JavaScript frame of Node, so promises would not be drained after it: setImmediate brings the work into one.
    onPoll: koffi.register((handle: number | bigint) => watchers.get(BigInt(handle))?.stopAndSettle(), pollCallback),
    onClose: koffi.register((handle: number | bigint) => watchers.delete(BigInt(handle)), closeCallback),
  };
}

/** One watcher per descriptor. It does not own the descriptor, and must be closed before it. */
export class FdWatcher {
  readonly #handle: Buffer;
  readonly #waiting: { events: number; settle: (open: boolean) => void }[] = [];
  #closed = false;

  constructor(fd: number) {
    this.#handle = Buffer.alloc(uv().handleSize);
    const result = uv().init(uv().loop, this.#handle, fd);
    if (result < 0) throw systemError(`watch descriptor ${fd}`, 'uv_poll_init', -result);
    watchers.set(koffi.address(this.#handle), this);
  }

  /** Resolves when a read would not block; false when the watcher was closed. */
  readable(): Promise<boolean> {
    return this.#wait(READABLE);
  }

  /** Resolves when a write would not block; false when the watcher was closed. */
  writable(): Promise<boolean> {
    return this.#wait(WRITABLE);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    uv().close(this.#handle, uv().onClose);
    for (const { settle } of this.#waiting.splice(0)) settle(false);
  }

  /** For the loop's callback: wakes every waiter (a spurious wake-up costs one EAGAIN) and stops watching until the next wait. */
  stopAndSettle(): void {
    if (this.#closed) return;
    uv().stop(this.#handle);
    const woken = this.#waiting.splice(0);
    setImmediate(() => {
      for (const { settle } of woken) settle(!this.#closed);
    });
  }

  #wait(events: number): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    return new Promise((settle) => {
      this.#waiting.push({ events, settle });
      const mask = this.#waiting.reduce((all, waiting) => all | waiting.events, 0);
      uv().start(this.#handle, mask, uv().onPoll);
    });
  }
}
