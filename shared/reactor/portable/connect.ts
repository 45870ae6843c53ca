// Opening a TCP connection from a socket that shared/os has prepared: with a deadline, and a way to give up.
import { Socket } from 'node:net';
import { formatHostPort } from '../../address.ts';
import { MeshError } from '../../errors.ts';
import { errorCode } from '../../os/errno.ts';
import { clientTcp } from '../../os/socket-factory.ts';
import type { ConnectOptions } from '../api.ts';
import { PortableConn } from './conn.ts';

const DEFAULT_TIMEOUT = 10_000;

/** Rejects with connect_failed, connect_timeout, or the MeshError that a signal was aborted with. `closed` is the reactor's own signal. */
export function openTcp(options: ConnectOptions, closed: AbortSignal): Promise<PortableConn> {
  const { to, timeout = DEFAULT_TIMEOUT } = options;
  const signals = options.signal ? [closed, options.signal] : [closed];
  const what = `connect to ${formatHostPort(to)}`;
  return new Promise((resolve, reject) => {
    for (const signal of signals) signal.throwIfAborted();
    const socket = new Socket({ fd: clientTcp(options), allowHalfOpen: true });
    socket.pause();
    const finish = (result: PortableConn | MeshError): void => {
      clearTimeout(timer);
      for (const signal of signals) signal.removeEventListener('abort', onAbort);
      socket.removeListener('error', onError);
      if (result instanceof PortableConn) return resolve(result);
      // The connection attempt may still fail after this, and nobody is left to hear it.
      socket.on('error', () => undefined);
      socket.destroy();
      return reject(result);
    };
    const onAbort = (event: Event): void => finish(abortError((event.target as AbortSignal).reason, what));
    const onError = (error: Error): void => finish(connectError(error, what));
    const timer = setTimeout(() => finish(new MeshError('connect_timeout', `${what}: no answer within ${timeout} ms`)), timeout);
    for (const signal of signals) signal.addEventListener('abort', onAbort);
    socket.once('error', onError);
    socket.connect({ host: to.ip, port: to.port }, () => {
      finish(PortableConn.of(socket) ?? new MeshError('connect_failed', `${what}: the peer closed the connection at once`));
    });
  });
}

function abortError(reason: unknown, what: string): MeshError {
  return reason instanceof MeshError ? reason : new MeshError('connect_failed', `${what}: cancelled`, { cause: reason });
}

function connectError(error: Error, what: string): MeshError {
  const code = errorCode(error);
  return new MeshError(code === 'ETIMEDOUT' ? 'connect_timeout' : 'connect_failed', `${what}: ${error.message}`, {
    cause: error,
  });
}
