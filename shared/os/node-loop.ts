// Node's own loop as libuv lets others embed it: a descriptor that is readable when the loop has something to do, and the time until it
// has in any case. With these two another loop can block for both (uv_backend_fd, uv_backend_timeout; each thread has its own loop).
import koffi from 'koffi';
import { checked } from './pointer-check.ts';

export interface NodeLoop {
  /** An epoll descriptor. */
  readonly fd: number;
  /**
   * Milliseconds until a timer is due; 0 when the loop should run now (an immediate, a handle to register or to close, or nothing that
   * keeps it alive); -1 when there is no timer.
   */
  timeout(): number;
}

interface LoopCalls {
  isolate(): unknown;
  loopOf(isolate: unknown): unknown;
  updateTime(loop: unknown): void;
  backendTimeout(loop: unknown): number;
  backendFd(loop: unknown): number;
}

/** The loop of the calling thread. */
export function nodeLoop(): NodeLoop {
  const calls = loopCalls();
  const loop = calls.loopOf(calls.isolate());
  return {
    fd: calls.backendFd(loop),
    timeout: () => {
      calls.updateTime(loop);
      return calls.backendTimeout(loop);
    },
  };
}

/** With what the pointers are checked for: a thread that runs no isolate has NULL for one, and Node none for its loop. */
export function loopCalls(): LoopCalls {
  const library = koffi.load(null);
  const calls: LoopCalls = {
    isolate: library.func('void *_ZN2v87Isolate10GetCurrentEv()'),
    loopOf: library.func('void *_ZN4node19GetCurrentEventLoopEPN2v87IsolateE(void *)'),
    updateTime: library.func('void uv_update_time(void *)'),
    backendTimeout: library.func('int uv_backend_timeout(void *)'),
    backendFd: library.func('int uv_backend_fd(void *)'),
  };
  return checked(calls, {
    isolate: '-> isolate',
    loopOf: 'isolate -> loop',
    updateTime: 'loop',
    backendTimeout: 'loop',
    backendFd: 'loop',
  });
}
