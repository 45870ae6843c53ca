// What is left of an HTTP/1.1 connection after a 101 answer: its bytes. The connection's codec goes on reading from the stream and
// hands the bytes over here.
import type { ByteStream, CloseReason, StreamHandler } from '#shared/reactor/api.ts';

export class UpgradedStream implements ByteStream {
  readonly #stream: ByteStream;
  #handler: StreamHandler | undefined;
  #held: Uint8Array[] = [];
  #ended = false;
  #closed: CloseReason | undefined;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  start(handler: StreamHandler): void {
    queueMicrotask(() => {
      this.#handler = handler;
      for (const chunk of this.#held.splice(0)) deliver(handler, chunk);
      if (this.#ended) handler.onEnd();
      if (this.#closed) handler.onClose(this.#closed);
      else this.#stream.resume();
    });
  }

  write(chunk: Uint8Array): boolean {
    return this.#stream.write(chunk);
  }

  end(): void {
    this.#stream.end();
  }

  reset(code?: number): void {
    this.#stream.reset(code);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  get buffered(): number {
    return this.#stream.buffered;
  }

  // --- the codec's side ---

  receive(chunk: Uint8Array): void {
    if (this.#handler) return deliver(this.#handler, chunk);
    this.#held.push(Uint8Array.from(chunk));
    this.#stream.pause();
  }

  receiveEnd(): void {
    this.#ended = true;
    this.#handler?.onEnd();
  }

  drained(): void {
    this.#handler?.onDrain();
  }

  lost(reason: CloseReason): void {
    this.#closed = reason;
    this.#handler?.onClose(reason);
  }
}

/** Through the handler's own buffer when it has one, as a stream must. */
export function deliver(handler: StreamHandler, chunk: Uint8Array): void {
  let at = 0;
  while (at < chunk.length) {
    const target = handler.buffer?.();
    if (!target) return handler.onData(at === 0 ? chunk : chunk.subarray(at));
    const count = Math.min(target.length, chunk.length - at);
    target.set(chunk.subarray(at, at + count));
    handler.onData(target.subarray(0, count));
    at += count;
  }
}
