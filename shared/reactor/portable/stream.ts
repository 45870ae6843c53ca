// A ByteStream over a Node socket: the events of the one in the words of the other.
import type { Duplex } from 'node:stream';
import { formatHostPort, type HostPort } from '../../address.ts';
import { MeshError } from '../../errors.ts';
import { errorCode } from '../../os/errno.ts';
import type { ByteStream, CloseReason, StreamHandler } from '../api.ts';
import { handlerFault, warnOf } from '../fault.ts';

/** What the kernel says when the peer has torn the connection down. */
const REMOTE_RESET = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);

export class SocketStream implements ByteStream {
  /** Told of what a handler threw. */
  onFault: (error: MeshError) => void = warnOf;
  readonly #socket: Duplex;
  readonly #abort: (code?: number) => void;
  readonly #remote: HostPort;
  #handler: StreamHandler | undefined;
  #paused = false;
  #reset = false;
  #fault: MeshError | undefined;
  #error: Error | undefined;
  #closed: CloseReason | undefined;

  /** `abort` destroys the socket so that the peer sees a reset. The socket must be paused, half-open allowed. */
  constructor(socket: Duplex, remote: HostPort, abort: (code?: number) => void) {
    this.#socket = socket;
    this.#remote = remote;
    this.#abort = abort;
    this.#error = socket.errored ?? undefined;
    if (socket.closed) this.#closed = this.#reason();
    socket.on('error', (error) => {
      this.#error = error;
    });
    // Without data before it, the end is told even to a paused reader.
    socket.on('end', () => this.#guard(() => this.#isGivenUp || this.#handler?.onEnd()));
    socket.on('close', () => {
      const closed = (this.#closed = this.#reason());
      this.#guard(() => this.#handler?.onClose(closed));
    });
  }

  get buffered(): number {
    return this.#socket.writableLength;
  }

  start(handler: StreamHandler): void {
    if (this.#closed || this.#socket.readableEnded) return this.#startLate(handler);
    this.#handler = handler;
    this.#socket.on('data', (chunk: Buffer) => this.#guard(() => this.#deliver(handler, chunk)));
    this.#socket.on('drain', () => this.#guard(() => handler.onDrain()));
    if (this.#paused) this.#socket.pause();
    else this.#socket.resume();
    return undefined;
  }

  write(chunk: Uint8Array): boolean {
    if (!this.#socket.writable) return true;
    return this.#socket.write(Buffer.from(chunk));
  }

  end(): void {
    if (this.#socket.writable) this.#socket.end();
  }

  reset(code?: number): void {
    if (this.#socket.destroyed) return;
    this.#reset = true;
    this.#abort(code);
  }

  /** Code of ours failed: the peer sees a reset, and the handler the reason. */
  fail(thrown: unknown): void {
    const error = handlerFault(this.#remote, thrown);
    this.#fault ??= error;
    if (!this.#socket.destroyed) this.#abort();
    this.onFault(error);
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#handler) this.#socket.resume();
  }

  /** What the peer did before start() is told after it. */
  #startLate(handler: StreamHandler): void {
    setImmediate(() => {
      this.#handler = handler;
      this.#socket.on('drain', () => this.#guard(() => handler.onDrain()));
      const closed = this.#closed;
      if (this.#socket.readableEnded && closed?.kind !== 'reset') this.#guard(() => handler.onEnd());
      if (closed) this.#guard(() => handler.onClose(closed));
    });
  }

  /** What a handler throws ends its connection. */
  #guard(call: () => void): void {
    try {
      call();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** This side has torn it down: a destroyed socket still tells what it had read ahead. */
  get #isGivenUp(): boolean {
    return this.#reset || this.#fault !== undefined;
  }

  #deliver(handler: StreamHandler, chunk: Buffer): void {
    for (let rest = chunk; rest.length > 0 && !this.#isGivenUp;) {
      const target = handler.buffer?.();
      if (!target) return handler.onData(rest);
      if (this.#socket.destroyed) return undefined;
      if (this.#paused) return (this.#socket.unshift(rest), undefined);
      const size = Math.min(rest.length, target.length);
      target.set(rest.subarray(0, size));
      rest = rest.subarray(size);
      handler.onData(target.subarray(0, size));
    }
    return undefined;
  }

  #reason(): CloseReason {
    if (this.#fault) return { kind: 'error', error: this.#fault };
    if (this.#reset) return { kind: 'reset', remote: false };
    if (this.#error) {
      const code = errorCode(this.#error);
      if (REMOTE_RESET.has(code)) return resetReason(this.#error);
      const kind = code.startsWith('ERR_SSL') ? 'tls_failure' : 'reset';
      return {
        kind: 'error',
        error: new MeshError(kind, `${formatHostPort(this.#remote)}: ${textOf(this.#error)}`, { cause: this.#error }),
      };
    }
    const ended = this.#socket.readableEnded && this.#socket.writableFinished;
    return ended ? { kind: 'ended' } : { kind: 'reset', remote: false };
  }
}

/** What OpenSSL means is its reason: the message has addresses of memory, files of its source and an end of line. */
function textOf(error: Error): string {
  return 'reason' in error && typeof error.reason === 'string' ? error.reason : error.message;
}

/** The code of an RST_STREAM survives when the stream below was not TCP (duplex.ts puts it on the error). */
function resetReason(error: Error): CloseReason {
  const code = 'streamCode' in error && typeof error.streamCode === 'number' ? error.streamCode : undefined;
  return code === undefined ? { kind: 'reset', remote: true } : { kind: 'reset', remote: true, code };
}
