// A peer of our HTTP/2 session that sends whatever octets a test wants, and sees the frames that come back.
import { systemClock } from '#shared/clock.ts';
import { codeName, Flag, FRAME_HEADER_SIZE, FrameType, PREFACE, readUint32, writeFrameHeader } from '#shared/http2/frames.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { HpackEncoder } from '#shared/http2/hpack/encoder.ts';
import { type Http2Options, Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { type MemoryStream, streamPair } from './stream-pair.ts';

export interface Frame {
  type: number;
  flags: number;
  id: number;
  payload: Buffer;
}

export function frame(type: number, flags: number, id: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_SIZE + payload.length);
  bytes.set(payload, writeFrameHeader(bytes, 0, payload.length, type, flags, id));
  return bytes;
}

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => bytes.writeUInt32BE(value >>> 0, i * 4));
  return bytes;
}

export const REQUEST: HeaderList = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'a'],
];

/** SETTINGS with nothing in it. */
export const SETTINGS: Buffer = frame(FrameType.settings, 0, 0);
export const OPENING: Buffer = Buffer.concat([PREFACE, SETTINGS]);

/** HEADERS frames of one connection, for who writes to a socket of its own. */
export class HeaderMaker {
  #encoder = new HpackEncoder();

  headers(id: number, headers: HeaderList, flags: number = Flag.endHeaders): Buffer {
    return frame(FrameType.headers, flags, id, this.#encoder.encode(headers));
  }
}

export class RawPeer extends HeaderMaker {
  readonly session: Http2Session;
  readonly streams: Http2Stream[] = [];
  readonly frames: Frame[] = [];
  closed: CloseReason | undefined;
  #wire: MemoryStream;
  #rest = Buffer.alloc(0);
  #waiting: (() => void)[] = [];
  ended = false;
  /** Octets of a client's preface that are still to come. */
  #preface: number;

  /** `highWater`: unread octets at which the session's transport asks it for a pause. */
  constructor(options: Partial<Http2Options> = {}, highWater = 1e9) {
    super();
    const [ours, theirs] = streamPair({ highWater });
    this.#wire = theirs;
    this.#preface = options.role === 'client' ? PREFACE.length : 0;
    theirs.start({
      onData: (chunk) => this.#read(chunk),
      onEnd: () => {
        this.ended = true;
        theirs.end();
        this.#wake();
      },
      onDrain: () => {},
      onClose: () => this.#wake(),
    });
    this.session = new Http2Session(ours, {
      role: 'server',
      clock: systemClock,
      onStream: (stream) => void this.streams.push(stream),
      ...options,
      onClose: (reason) => {
        this.closed = reason;
        this.#wake();
      },
    });
  }

  send(...parts: Uint8Array[]): void {
    this.#wire.write(Buffer.concat(parts));
  }

  /** Leaves everything unread from now on. */
  stall(): void {
    this.#wire.pause();
  }

  readOn(): void {
    this.#wire.resume();
  }

  /** Ends its own direction. */
  leave(): void {
    this.#wire.end();
  }

  /** Resolves when `ready` holds; fails after two seconds. */
  async until(ready: () => boolean): Promise<void> {
    const deadline = Date.now() + 2000;
    while (!ready()) {
      if (Date.now() > deadline)
        throw new Error(`not in time; frames: ${this.summary()}, closed: ${JSON.stringify(this.closed)}`);
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        setTimeout(resolve, 20);
      });
    }
  }

  find(type: number, id?: number): Frame | undefined {
    return this.frames.find((own) => own.type === type && (id === undefined || own.id === id));
  }

  /** The error of the GOAWAY that came, or undefined. */
  goaway(): string | undefined {
    const found = this.find(FrameType.goaway);
    return found && codeName(readUint32(found.payload, 4));
  }

  /** The error of the RST_STREAM that came for a stream, or undefined. */
  reset(id: number): string | undefined {
    const found = this.find(FrameType.rstStream, id);
    return found && codeName(readUint32(found.payload, 0));
  }

  summary(): string {
    return this.frames.map(({ type, id }) => `${type}/${id}`).join(' ');
  }

  #read(chunk: Uint8Array): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const skipped = Math.min(this.#preface, this.#rest.length);
    this.#preface -= skipped;
    this.#rest = this.#rest.subarray(skipped);
    while (this.#rest.length >= FRAME_HEADER_SIZE) {
      const end = FRAME_HEADER_SIZE + this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < end) break;
      const [type = 0, flags = 0] = this.#rest.subarray(3, 5);
      this.frames.push({ type, flags, id: this.#rest.readUInt32BE(5), payload: this.#rest.subarray(FRAME_HEADER_SIZE, end) });
      this.#rest = this.#rest.subarray(end);
    }
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
