// What a stream told its handler, and a check of the seam's rules on the way: no event inside a call, nothing after onClose.
import { createHash } from 'node:crypto';
import type { ByteStream, CloseReason, StreamHandler } from '#shared/reactor/api.ts';

/** Shared by the streams of one test: true while the test is inside a call to any of them. */
export interface Guard {
  inCall: boolean;
  readonly faults: string[];
}

export function createGuard(): Guard {
  return { inCall: false, faults: [] };
}

export class Recorder implements StreamHandler {
  readonly stream: ByteStream;
  readonly events: string[] = [];
  bytes = 0;
  /** Called with each chunk, for tests that answer or stall. */
  onChunk: ((chunk: Uint8Array) => void) | undefined;
  /** Set by tests that exercise buffer(). */
  space: Uint8Array | undefined;
  readonly ended: Promise<void>;
  readonly closed: Promise<CloseReason>;
  readonly #guard: Guard;
  readonly #hash = createHash('sha256');
  readonly #end = Promise.withResolvers<void>();
  readonly #close = Promise.withResolvers<CloseReason>();
  #drain = Promise.withResolvers<void>();

  constructor(stream: ByteStream, guard: Guard, space?: Uint8Array) {
    this.stream = stream;
    this.#guard = guard;
    this.space = space;
    this.ended = this.#end.promise;
    this.closed = this.#close.promise;
    if (space) Object.assign(this, { buffer: () => space });
  }

  get digest(): string {
    return this.#hash.copy().digest('hex');
  }

  start(): this {
    this.call((stream) => stream.start(this));
    return this;
  }

  call<T>(run: (stream: ByteStream) => T): T {
    const before = this.#guard.inCall;
    this.#guard.inCall = true;
    try {
      return run(this.stream);
    } finally {
      this.#guard.inCall = before;
    }
  }

  /** Writes `chunk` so often, waiting for onDrain when asked to. */
  async send(chunk: Uint8Array, times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      this.#drain = Promise.withResolvers<void>();
      if (!this.call((stream) => stream.write(chunk))) await this.#drain.promise;
    }
  }

  onData(chunk: Uint8Array): void {
    this.#note('data');
    if (this.space && chunk.buffer !== this.space.buffer) this.#guard.faults.push('a chunk outside buffer()');
    this.bytes += chunk.length;
    this.#hash.update(chunk);
    this.onChunk?.(chunk);
  }

  onEnd(): void {
    this.#note('end');
    this.#end.resolve();
  }

  onDrain(): void {
    this.#note('drain');
    this.#drain.resolve();
  }

  onClose(reason: CloseReason): void {
    this.#note('close');
    this.#close.resolve(reason);
  }

  #note(event: string): void {
    if (this.#guard.inCall) this.#guard.faults.push(`${event} came inside a call`);
    if (this.events.includes('close')) this.#guard.faults.push(`${event} came after close`);
    if (event === 'data' && this.events.includes('end')) this.#guard.faults.push('data came after end');
    if (event !== this.events.at(-1) || event !== 'data') this.events.push(event);
  }
}
