// Node's own loop as libuv lets others embed it: a descriptor that is readable when the loop has something to do, and the time until it
// has in any case. With these two another loop can block for both (uv_backend_fd, uv_backend_timeout; each thread has its own loop).
import koffi from 'koffi';

export interface NodeLoop {
  /** An epoll descriptor. */
  readonly fd: number;
  /**
   * Milliseconds until a timer is due; 0 when the loop should run now (an immediate, a handle to register or to close, or nothing that
   * keeps it alive); -1 when there is no timer.
   */
  timeout(): number;
}

/** The loop of the calling thread. */
export function nodeLoop(): NodeLoop {
  const library = koffi.load(null);
  const isolate: unknown = library.func('void *_ZN2v87Isolate10GetCurrentEv()')();
  const loop: unknown = library.func('void *_ZN4node19GetCurrentEventLoopEPN2v87IsolateE(void *)')(isolate);
  const updateTime = library.func('void uv_update_time(void *)');
  const backendTimeout = library.func('int uv_backend_timeout(void *)');
  return {
    fd: library.func('int uv_backend_fd(void *)')(loop),
    timeout: () => {
      updateTime(loop);
      return backendTimeout(loop);
    },
  };
}
