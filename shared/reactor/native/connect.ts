// Opening a TCP connection: with a deadline, and a way to give up.
import { formatHostPort } from '../../address.ts';
import { MeshError } from '../../errors.ts';
import { systemError } from '../../os/errno.ts';
import { EPOLL, ERRNO } from '../../os/layout.ts';
import { clientTcp, socketError, startConnect } from '../../os/socket-factory.ts';
import { libc } from '../../os/syscalls.ts';
import type { ConnectOptions } from '../api.ts';
import type { Loop } from './loop.ts';

const DEFAULT_TIMEOUT = 10_000;

/**
 * Resolves to a connected descriptor; rejects with connect_failed, connect_timeout, or the MeshError a signal was aborted with.
 * `closed` is the reactor's own signal.
 */
export function openTcp(loop: Loop, options: ConnectOptions, closed: AbortSignal): Promise<number> {
  const { to, timeout = DEFAULT_TIMEOUT } = options;
  const signals = options.signal ? [closed, options.signal] : [closed];
  const what = `connect to ${formatHostPort(to)}`;
  return new Promise((resolve, reject) => {
    for (const signal of signals) signal.throwIfAborted();
    const fd = clientTcp(options);
    let watchId = 0;
    const finish = (error?: MeshError): void => {
      clearTimeout(timer);
      for (const signal of signals) signal.removeEventListener('abort', onAbort);
      if (watchId) loop.unwatch(fd, watchId);
      if (!error) return resolve(fd);
      libc().close(fd);
      return reject(error);
    };
    const onResult = (code: number): void => finish(code === 0 ? undefined : connectError(what, code));
    const onAbort = (event: Event): void => finish(abortError((event.target as AbortSignal).reason, what));
    const timer = setTimeout(() => finish(new MeshError('connect_timeout', `${what}: no answer within ${timeout} ms`)), timeout);
    const started = startConnect(fd, to);
    if (started !== ERRNO.EINPROGRESS) return onResult(started);
    for (const signal of signals) signal.addEventListener('abort', onAbort);
    const onFault = (thrown: unknown): MeshError => {
      const error = MeshError.from(thrown);
      finish(error);
      return error;
    };
    watchId = loop.watch(fd, EPOLL.OUT, { onEvents: () => onResult(socketError(fd)), onFault });
    return undefined;
  });
}

function connectError(what: string, code: number): MeshError {
  const error = systemError(what, 'connect', code);
  return error.code === 'connect_timeout' ? error : new MeshError('connect_failed', error.message, { cause: error.cause });
}

function abortError(reason: unknown, what: string): MeshError {
  return reason instanceof MeshError ? reason : new MeshError('connect_failed', `${what}: cancelled`, { cause: reason });
}
