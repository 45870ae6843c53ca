// The one output buffer of a session. Frames are appended where they will be sent from, a DATA header in front of its payload, and
// everything leaves in one write at the end of the turn. Between turns a session holds no buffer: it borrows one from the pool.
import { Buffer } from 'node:buffer';
import type { ByteStream } from '../reactor/api.ts';
import { DEFAULT_FRAME_SIZE, Flag, FRAME_HEADER_SIZE, FrameType, writeFrameHeader, writeUint32 } from './frames.ts';

/** Below this much room a DATA frame is not worth starting: flush first. */
const MIN_ROOM = 4096;

/** Output buffers that the sessions of one thread lend each other. */
export class BufferPool {
  readonly size: number;
  #free: Buffer[] = [];
  #keep: number;

  /** By default as much as is encrypted in one go (shared/tls/wire.ts). */
  constructor(size = 524_288, keep = 4) {
    this.size = size;
    this.#keep = keep;
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.size);
  }

  /** Buffers of another size are let go. */
  give(buffer: Buffer): void {
    if (buffer.length === this.size && this.#free.length < this.#keep) this.#free.push(buffer);
  }
}

export class Output {
  /** DATA sent so far, in frames of the default size where they are larger. */
  dataFrames = 0;
  #transport: ByteStream;
  #pool: BufferPool;
  #onDirty: () => void;
  #buffer: Buffer | undefined;
  #length = 0;
  #blocked = false;
  /** The last frame when it is DATA: its stream and where its header is, so that more payload or END_STREAM joins it. */
  #tailStream = 0;
  #tailAt = 0;

  /** `onDirty` is called when something waits for flush(). */
  constructor(transport: ByteStream, pool: BufferPool, onDirty: () => void) {
    this.#transport = transport;
    this.#pool = pool;
    this.#onDirty = onDirty;
  }

  /** Octets that wait for flush(). */
  get length(): number {
    return this.#length;
  }

  /** The transport asked for a pause: no DATA until unblock(). */
  get blocked(): boolean {
    return this.#blocked;
  }

  frame(type: number, flags: number, streamId: number, payload: Uint8Array): void {
    const buffer = this.#grow(FRAME_HEADER_SIZE + payload.length);
    const at = writeFrameHeader(buffer, this.#length, payload.length, type, flags, streamId);
    buffer.set(payload, at);
    this.#appended(at + payload.length);
  }

  /** A frame whose payload is one 32-bit number: RST_STREAM, WINDOW_UPDATE. */
  numberFrame(type: number, streamId: number, value: number): void {
    const buffer = this.#grow(FRAME_HEADER_SIZE + 4);
    const at = writeFrameHeader(buffer, this.#length, 4, type, 0, streamId);
    writeUint32(buffer, at, value);
    this.#appended(at + 4);
  }

  /** HEADERS, with CONTINUATION frames when the block is longer than a frame may be. */
  headers(streamId: number, block: Uint8Array, endStream: boolean, maxFrame: number): void {
    let at = 0;
    do {
      const end = Math.min(block.length, at + maxFrame);
      const flags = (at === 0 && endStream ? Flag.endStream : 0) | (end === block.length ? Flag.endHeaders : 0);
      this.frame(at === 0 ? FrameType.headers : FrameType.continuation, flags, streamId, block.subarray(at, end));
      at = end;
    } while (at < block.length);
  }

  /** Octets of DATA payload that can be appended now; 0 while blocked. Flushes when the buffer is nearly full. */
  room(): number {
    if (this.#blocked) return 0;
    let room = this.#pool.size - this.#length - FRAME_HEADER_SIZE;
    if (room < MIN_ROOM) {
      this.flush();
      room = this.#blocked ? 0 : this.#pool.size - FRAME_HEADER_SIZE;
    }
    return room;
  }

  /** Where the payload of the next DATA frame would go: data() takes it from there without a copy, if nothing was appended since. */
  space(octets: number): Uint8Array {
    // Also when nothing comes to fill it, the end of the turn must give the buffer back.
    if (this.#length === 0) this.#onDirty();
    const buffer = this.#grow(FRAME_HEADER_SIZE);
    const at = this.#length + FRAME_HEADER_SIZE;
    return buffer.subarray(at, Math.min(buffer.length, at + octets));
  }

  /** Appends chunk[from, to) as DATA. The caller checked room(). */
  data(streamId: number, chunk: Uint8Array, from: number, to: number, maxFrame: number): void {
    this.dataFrames += 1 + Math.floor((to - from) / DEFAULT_FRAME_SIZE);
    const buffer = this.#grow(FRAME_HEADER_SIZE + to - from);
    if (chunk.buffer === buffer.buffer && chunk.byteOffset + from === buffer.byteOffset + this.#length + FRAME_HEADER_SIZE) {
      this.#dataFrame(buffer, streamId, to - from);
      return;
    }
    const joined = this.#tailLength(buffer) + to - from;
    const source = from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to);
    if (this.#tailStream === streamId && joined <= maxFrame) {
      buffer.set(source, this.#length);
      writeFrameHeader(buffer, this.#tailAt, joined, FrameType.data, 0, streamId);
      this.#length += source.length;
      return;
    }
    buffer.set(source, this.#length + FRAME_HEADER_SIZE);
    this.#dataFrame(buffer, streamId, source.length);
  }

  /** Ends a stream: on its last DATA frame when that is still here. */
  endStream(streamId: number): void {
    if (this.#buffer && this.#tailStream === streamId) {
      this.#buffer[this.#tailAt + 4] = Flag.endStream;
      this.#tailStream = 0;
    } else this.frame(FrameType.data, Flag.endStream, streamId, EMPTY);
  }

  flush(): void {
    const buffer = this.#buffer;
    if (!buffer || this.#blocked) return;
    const length = this.#length;
    this.#buffer = undefined;
    this.#length = 0;
    this.#tailStream = 0;
    if (length > 0) this.#blocked = !this.#transport.write(buffer.subarray(0, length));
    this.#pool.give(buffer);
  }

  /** The transport takes more: sends what waited. */
  unblock(): void {
    this.#blocked = false;
    this.flush();
  }

  #dataFrame(buffer: Uint8Array, streamId: number, length: number): void {
    const start = this.#length;
    const at = writeFrameHeader(buffer, start, length, FrameType.data, 0, streamId);
    this.#appended(at + length);
    this.#tailStream = streamId;
    this.#tailAt = start;
  }

  #tailLength(buffer: Uint8Array): number {
    const at = this.#tailAt;
    return this.#tailStream === 0 ? 0 : ((buffer[at] ?? 0) << 16) | ((buffer[at + 1] ?? 0) << 8) | (buffer[at + 2] ?? 0);
  }

  #appended(length: number): void {
    if (this.#length === 0) this.#onDirty();
    this.#length = length;
    this.#tailStream = 0;
  }

  /** The buffer with room for `octets` more. Only frames other than DATA ever make it larger than those of the pool. */
  #grow(octets: number): Buffer {
    const buffer = (this.#buffer ??= this.#pool.take());
    if (this.#length + octets <= buffer.length) return buffer;
    if (!this.#blocked) {
      this.flush();
      if (!this.#blocked) return this.#grow(octets);
    }
    const larger = Buffer.allocUnsafeSlow(Math.max(buffer.length * 2, this.#length + octets));
    larger.set(buffer.subarray(0, this.#length));
    this.#pool.give(buffer);
    this.#buffer = larger;
    return larger;
  }
}

const EMPTY = new Uint8Array(0);
