// Libuv's poll handle, which the node binary exports: readiness of any descriptor on Node's own loop. Main thread only, because only
// the main thread's loop can be asked for.
import { isMainThread } from 'node:worker_threads';
import koffi from 'koffi';
import { MeshError } from '../errors.ts';
import { systemError } from './errno.ts';
import { checked, checkRange, type Shape } from './pointer-check.ts';

export const READABLE = 1;
export const WRITABLE = 2;
/** UV_POLL of uv_handle_type. */
const POLL_TYPE = 8;

interface Uv {
  loop: unknown;
  handleSize: number;
  init(loop: unknown, handle: Uint8Array, fd: number): number;
  start(handle: Uint8Array, events: number, callback: bigint): number;
  stop(handle: Uint8Array): number;
  ref(handle: Uint8Array): void;
  unref(handle: Uint8Array): void;
  close(handle: Uint8Array, callback: bigint): void;
  onPoll: bigint;
  onClose: bigint;
}

const SHAPES: Partial<Record<keyof Uv, Shape>> = {
  init: 'loop +handle fd',
  start: 'handle - -',
  stop: 'handle',
  ref: 'handle',
  unref: 'handle',
  close: '~handle -',
};

let bound: Uv | undefined;
/** By the address of the handle's memory, which must not be freed before libuv has closed the handle. */
const handles = new Map<bigint, UvPoll>();

function uv(): Uv {
  bound ??= bind();
  return bound;
}

function bind(): Uv {
  if (!isMainThread)
    throw new MeshError('internal', "descriptors are watched on the main thread only: a worker's loop cannot be asked for");
  const library = koffi.load(null);
  const pollCallback = koffi.pointer(koffi.proto('void', ['uintptr_t', 'int', 'int']));
  const closeCallback = koffi.pointer(koffi.proto('void', ['uintptr_t']));
  const { defaultLoop } = checked(
    { defaultLoop: library.func('void *uv_default_loop()') as () => unknown },
    { defaultLoop: '-> loop' },
  );
  const calls: Uv = {
    loop: defaultLoop(),
    handleSize: library.func('size_t uv_handle_size(int)')(POLL_TYPE),
    init: library.func('int uv_poll_init(void *, void *, int)'),
    start: library.func('uv_poll_start', 'int', ['void *', 'int', pollCallback]),
    stop: library.func('int uv_poll_stop(void *)'),
    ref: library.func('void uv_ref(void *)'),
    unref: library.func('void uv_unref(void *)'),
    close: library.func('uv_close', 'void', ['void *', closeCallback]),
    onPoll: koffi.register((handle: number | bigint) => handles.get(BigInt(handle))?.ready(), pollCallback),
    onClose: koffi.register((handle: number | bigint) => handles.delete(BigInt(handle)), closeCallback),
  };
  return checked(calls, SHAPES, {
    init: (_fail, _call, _loop, handle) => checkRange('a poll handle', handle, calls.handleSize),
    start(fail, _call, _handle, events, callback) {
      if (events < READABLE || events > (READABLE | WRITABLE)) fail(2, `${events} are no events`);
      if (callback !== calls.onPoll) fail(3, 'not the callback of this thread');
    },
    close(fail, _call, _handle, callback) {
      if (callback !== calls.onClose) fail(2, 'not the callback of this thread');
    },
  });
}

/** One per descriptor. It does not own the descriptor, and must be closed before it. */
export class UvPoll {
  /**
   * Runs in the loop's poll phase, outside any JavaScript frame of Node: promises are not drained after it, so it should only bring
   * work into one (setImmediate follows in the same turn of the loop).
   */
  readonly ready: () => void;
  readonly #handle: Buffer;

  constructor(fd: number, ready: () => void) {
    this.ready = ready;
    this.#handle = Buffer.alloc(uv().handleSize);
    const result = uv().init(uv().loop, this.#handle, fd);
    if (result < 0) throw systemError(`watch descriptor ${fd}`, 'uv_poll_init', -result);
    handles.set(koffi.address(this.#handle), this);
  }

  /** Calls `ready` in every turn in which one of the events (READABLE, WRITABLE) holds. */
  start(events: number): void {
    uv().start(this.#handle, events, uv().onPoll);
  }

  stop(): void {
    uv().stop(this.#handle);
  }

  /** Whether a started handle keeps the process alive. */
  keepAlive(yes: boolean): void {
    if (yes) uv().ref(this.#handle);
    else uv().unref(this.#handle);
  }

  close(): void {
    uv().close(this.#handle, uv().onClose);
  }
}
