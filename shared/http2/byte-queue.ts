// Bytes that must wait: held for a reader that paused, or for a window. Small pieces are packed into blocks, so that a peer that sends
// one-byte frames cannot make the bookkeeping cost more than the bytes.

const BLOCK = 16_384;

interface Block {
  bytes: Uint8Array;
  from: number;
  to: number;
}

export class ByteQueue {
  /** Made by the first push: most queues never hold anything. */
  #blocks: Block[] | undefined;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Copies the chunk. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#length += chunk.length;
    const blocks = (this.#blocks ??= []);
    const last = blocks.at(-1);
    const room = last ? Math.min(last.bytes.length - last.to, chunk.length) : 0;
    if (last && room > 0) {
      last.bytes.set(room === chunk.length ? chunk : chunk.subarray(0, room), last.to);
      last.to += room;
    }
    const rest = chunk.length - room;
    if (rest === 0) return;
    // The first block is as small as the piece: most streams never hold a second one.
    const bytes = last ? new Uint8Array(Math.max(rest, BLOCK)) : Buffer.allocUnsafe(Math.max(rest, 512));
    bytes.set(room === 0 ? chunk : chunk.subarray(room));
    blocks.push({ bytes, from: 0, to: rest });
  }

  /** The oldest bytes, at most `max`; valid until the next push(). Undefined when empty. */
  peek(max: number): Uint8Array | undefined {
    const first = this.#blocks?.[0];
    return first?.bytes.subarray(first.from, Math.min(first.to, first.from + max));
  }

  /** Drops bytes that one peek() returned. */
  skip(count: number): void {
    const first = this.#blocks?.[0];
    if (!first) return;
    first.from += count;
    this.#length -= count;
    if (first.from === first.to) this.#blocks?.shift();
  }

  /** All of them, in one piece. */
  takeAll(): Uint8Array {
    const pieces = (this.#blocks ?? []).map(({ bytes, from, to }) => bytes.subarray(from, to));
    this.clear();
    return pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
  }

  clear(): void {
    this.#blocks = undefined;
    this.#length = 0;
  }
}
