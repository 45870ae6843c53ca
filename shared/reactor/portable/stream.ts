// A ByteStream over a Node socket: the events of the one in the words of the other.
import type { Duplex } from 'node:stream';
import { MeshError } from '../../errors.ts';
import { errorCode } from '../../os/errno.ts';
import type { ByteStream, CloseReason, StreamHandler } from '../api.ts';

/** What the kernel says when the peer has torn the connection down. */
const REMOTE_RESET = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);

export class SocketStream implements ByteStream {
  readonly #socket: Duplex;
  readonly #abort: (code?: number) => void;
  readonly #name: string;
  #handler: StreamHandler | undefined;
  #paused = false;
  #reset = false;
  #error: Error | undefined;
  #closed: CloseReason | undefined;

  /** `abort` destroys the socket so that the peer sees a reset. `name` is for error texts. The socket must be paused, half-open allowed. */
  constructor(socket: Duplex, name: string, abort: (code?: number) => void) {
    this.#socket = socket;
    this.#name = name;
    this.#abort = abort;
    this.#error = socket.errored ?? undefined;
    if (socket.closed) this.#closed = this.#reason();
    socket.on('error', (error) => {
      this.#error = error;
    });
    // Without data before it, the end is told even to a paused reader.
    socket.on('end', () => this.#handler?.onEnd());
    socket.on('close', () => {
      this.#closed = this.#reason();
      this.#handler?.onClose(this.#closed);
    });
  }

  get buffered(): number {
    return this.#socket.writableLength;
  }

  start(handler: StreamHandler): void {
    if (this.#closed || this.#socket.readableEnded) return this.#startLate(handler);
    this.#handler = handler;
    this.#socket.on('data', (chunk: Buffer) => this.#deliver(handler, chunk));
    this.#socket.on('drain', () => handler.onDrain());
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
      this.#socket.on('drain', () => handler.onDrain());
      if (this.#socket.readableEnded && this.#closed?.kind !== 'reset') handler.onEnd();
      if (this.#closed) handler.onClose(this.#closed);
    });
  }

  #deliver(handler: StreamHandler, chunk: Buffer): void {
    if (!handler.buffer) return handler.onData(chunk);
    for (let rest = chunk; rest.length > 0;) {
      if (this.#socket.destroyed) return undefined;
      if (this.#paused) return (this.#socket.unshift(rest), undefined);
      const target = handler.buffer();
      const size = Math.min(rest.length, target.length);
      target.set(rest.subarray(0, size));
      rest = rest.subarray(size);
      handler.onData(target.subarray(0, size));
    }
    return undefined;
  }

  #reason(): CloseReason {
    if (this.#reset) return { kind: 'reset', remote: false };
    if (this.#error) {
      const code = errorCode(this.#error);
      if (REMOTE_RESET.has(code)) return resetReason(this.#error);
      const kind = code.startsWith('ERR_SSL') ? 'tls_failure' : 'reset';
      return { kind: 'error', error: new MeshError(kind, `${this.#name}: ${this.#error.message}`, { cause: this.#error }) };
    }
    const ended = this.#socket.readableEnded && this.#socket.writableFinished;
    return ended ? { kind: 'ended' } : { kind: 'reset', remote: false };
  }
}

/** The code of an RST_STREAM survives when the stream below was not TCP (duplex.ts puts it on the error). */
function resetReason(error: Error): CloseReason {
  const code = 'streamCode' in error && typeof error.streamCode === 'number' ? error.streamCode : undefined;
  return code === undefined ? { kind: 'reset', remote: true } : { kind: 'reset', remote: true, code };
}
