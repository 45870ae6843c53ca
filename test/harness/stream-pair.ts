// Two ByteStreams joined in memory, and a ByteStream over a node socket: transports for tests of codecs.
import type { Socket } from 'node:net';
import { MeshError } from '#shared/errors.ts';
import type { ByteStream, CloseReason, StreamHandler } from '#shared/reactor/api.ts';

/** One end of the pair. It delivers in later turns, honours pause() and asks for pauses above `highWater` octets. */
export class MemoryStream implements ByteStream {
  peer!: MemoryStream;
  #handler: StreamHandler | undefined;
  #inbox: Uint8Array[] = [];
  #inboxSize = 0;
  #paused = false;
  #ended = false;
  #peerEnded = false;
  #endSeen = false;
  #closed: CloseReason | undefined;
  #closeTold = false;
  #due = false;
  #peerWaits = false;
  #highWater: number;
  #split: number;

  /** `split`: chunks are cut to this size on delivery, to try every boundary. */
  constructor(highWater: number, split: number) {
    this.#highWater = highWater;
    this.#split = split;
  }

  get buffered(): number {
    return this.peer.#inboxSize;
  }

  start(handler: StreamHandler): void {
    this.#handler = handler;
    this.#wake();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#closed || this.#ended) return true;
    this.peer.#inbox.push(Uint8Array.from(chunk));
    this.peer.#inboxSize += chunk.length;
    this.peer.#wake();
    const full = this.peer.#inboxSize >= this.#highWater;
    if (full) this.peer.#peerWaits = true;
    return !full;
  }

  end(): void {
    this.#ended = true;
    this.peer.#peerEnded = true;
    this.peer.#wake();
    this.#wake();
  }

  reset(code?: number): void {
    if (this.#closed) return;
    const extra = code === undefined ? {} : { code };
    this.#closed = { kind: 'reset', remote: false, ...extra };
    this.peer.#closed ??= { kind: 'reset', remote: true, ...extra };
    this.#wake();
    this.peer.#wake();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#wake();
  }

  #wake(): void {
    if (this.#due) return;
    this.#due = true;
    setImmediate(() => {
      this.#due = false;
      this.#turn();
    });
  }

  #turn(): void {
    const handler = this.#handler;
    if (!handler || this.#closeTold) return;
    while (!this.#paused && !this.#closed && this.#inbox.length > 0) {
      const first = this.#inbox[0]!;
      const piece = first.subarray(0, this.#split);
      if (piece.length === first.length) this.#inbox.shift();
      else this.#inbox[0] = first.subarray(piece.length);
      this.#inboxSize -= piece.length;
      handler.onData(piece);
      if (this.#peerWaits && this.#inboxSize < this.#highWater) {
        this.#peerWaits = false;
        setImmediate(() => this.peer.#drained());
      }
    }
    if (this.#peerEnded && !this.#endSeen && !this.#paused && this.#inbox.length === 0 && !this.#closed) {
      this.#endSeen = true;
      handler.onEnd();
    }
    if (this.#endSeen && this.#ended) this.#closed ??= { kind: 'ended' };
    if (!this.#closed) return;
    this.#closeTold = true;
    handler.onClose(this.#closed);
  }

  #drained(): void {
    if (!this.#closeTold) this.#handler?.onDrain();
  }
}

export function streamPair(options: { highWater?: number; split?: number } = {}): [MemoryStream, MemoryStream] {
  const { highWater = 65_536, split = Infinity } = options;
  const a = new MemoryStream(highWater, split);
  const b = new MemoryStream(highWater, split);
  a.peer = b;
  b.peer = a;
  return [a, b];
}

/** A connected node socket (created with allowHalfOpen) as a ByteStream. */
export function socketStream(socket: Socket): ByteStream {
  return {
    start(handler) {
      let failure: Error | undefined;
      socket.on('data', (chunk: Buffer) => handler.onData(chunk));
      socket.on('end', () => handler.onEnd());
      socket.on('drain', () => handler.onDrain());
      socket.on('error', (error) => (failure = error));
      socket.on('close', () => {
        handler.onClose(failure ? { kind: 'error', error: MeshError.from(failure, 'reset') } : { kind: 'ended' });
      });
    },
    // Uint8Array.from: node keeps the chunk, the contract lets the caller reuse it.
    write: (chunk) => socket.write(Uint8Array.from(chunk)),
    end: () => void socket.end(),
    reset: () => void socket.resetAndDestroy(),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    get buffered() {
      return socket.writableLength;
    },
  };
}
