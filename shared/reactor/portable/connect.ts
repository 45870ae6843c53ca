// Opening a TCP connection from a socket that shared/os has prepared: with a deadline, and a way to give up.
import { Socket } from 'node:net';
import { formatHostPort } from '../../address.ts';
import { nextId } from '../../collections/id-table.ts';
import { MeshError } from '../../errors.ts';
import type { CancelSignal } from '../../lifecycle/cancel.ts';
import { errorCode } from '../../os/errno.ts';
import { clientTcp, mayHaveAnotherPort } from '../../os/socket-factory.ts';
import type { ConnectOptions } from '../api.ts';
import { PortableConn } from './conn.ts';

const DEFAULT_TIMEOUT = 10_000;

/** Rejects with connect_failed, connect_timeout, or the reason of whatever cancels it. `closed` is the reactor's end. */
export async function openTcp(options: ConnectOptions, closed: CancelSignal): Promise<PortableConn> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await openOnce(options, closed, attempt);
    } catch (thrown) {
      if (errorCode(thrown) !== 'EADDRNOTAVAIL' || !mayHaveAnotherPort(options, attempt)) throw thrown;
    }
  }
}

function openOnce(options: ConnectOptions, closed: CancelSignal, attempt: number): Promise<PortableConn> {
  const { to, timeout = DEFAULT_TIMEOUT } = options;
  const signals = options.cancel ? [closed, options.cancel] : [closed];
  const what = `connect to ${formatHostPort(to)}`;
  return new Promise((resolve, reject) => {
    for (const { reason } of signals) if (reason) throw reason;
    const socket = new Socket({ fd: clientTcp(options, attempt), allowHalfOpen: true });
    socket.pause();
    const finish = (result: PortableConn | MeshError): void => {
      clearTimeout(timer);
      for (const signal of signals) signal.delete(listener);
      socket.removeListener('error', onError);
      if (result instanceof PortableConn) return resolve(result);
      // The connection attempt may still fail after this, and nobody is left to hear it.
      socket.on('error', () => undefined);
      socket.destroy();
      return reject(result);
    };
    const listener = { id: nextId(), onCancel: finish };
    const onError = (error: Error): void => finish(connectError(error, what));
    const timer = setTimeout(() => finish(new MeshError('connect_timeout', `${what}: no answer within ${timeout} ms`)), timeout);
    for (const signal of signals) signal.add(listener);
    socket.once('error', onError);
    socket.connect({ host: to.ip, port: to.port }, () => {
      finish(PortableConn.of(socket) ?? new MeshError('connect_failed', `${what}: the peer closed the connection at once`));
    });
  });
}

function connectError(error: Error, what: string): MeshError {
  const code = errorCode(error);
  return new MeshError(code === 'ETIMEDOUT' ? 'connect_timeout' : 'connect_failed', `${what}: ${error.message}`, {
    cause: error,
  });
}
