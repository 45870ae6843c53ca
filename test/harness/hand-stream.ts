// A transport whose other end is the test: it says what comes, and when what was written has been read.
import type { ByteStream, StreamHandler } from '#shared/reactor/api.ts';

export class HandStream implements ByteStream {
  /** Whoever uses the stream: call it for what comes. */
  handler!: StreamHandler;
  paused = false;
  readonly #highWater: number;
  #written: Buffer[] = [];
  #buffered = 0;

  /** `highWater`: octets that wait to be read from which on write() asks for a pause. */
  constructor(highWater: number) {
    this.#highWater = highWater;
  }

  get buffered(): number {
    return this.#buffered;
  }

  start(handler: StreamHandler): void {
    this.handler = handler;
  }

  write(chunk: Uint8Array): boolean {
    this.#written.push(Buffer.from(chunk));
    this.#buffered += chunk.length;
    return this.#buffered < this.#highWater;
  }

  /** The peer reads all that was written. */
  read(): Buffer {
    const all = Buffer.concat(this.#written.splice(0));
    this.#buffered = 0;
    this.handler.onDrain();
    return all;
  }

  end(): void {}
  reset(): void {}
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
}
