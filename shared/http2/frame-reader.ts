// Cuts the byte stream into frames. DATA payload goes on in the pieces it came in, never copied; the payload of any other frame is
// handed over whole, and copied only when it came in pieces.
import { ConnectionFault, Flag, FRAME_HEADER_SIZE, FrameType, Http2Code, PREFACE, readUint31 } from './frames.ts';

export interface FrameSink {
  /** A whole frame other than DATA. The payload is valid during the call. */
  onFrame(type: number, flags: number, streamId: number, payload: Uint8Array): void;
  /** `length` is what flow control counts: padding included. */
  onDataStart(flags: number, streamId: number, length: number): void;
  /** A piece of the current DATA frame, without padding. Valid during the call. */
  onData(chunk: Uint8Array): void;
  onDataEnd(): void;
}

export interface ReaderLimits {
  /** SETTINGS_MAX_FRAME_SIZE as announced. */
  frame: number;
  /** Largest payload that is collected whole; longer header blocks end the connection, longer unknown frames are skipped. */
  collected: number;
}

type State = 'preface' | 'header' | 'payload' | 'pad-length' | 'data' | 'padding' | 'skip';

const KNOWN_TYPES = FrameType.continuation;

export class FrameReader {
  #sink: FrameSink;
  #limits: ReaderLimits;
  #state: State;
  #head = new Uint8Array(FRAME_HEADER_SIZE);
  /** Octets of the header or payload collected so far. */
  #have = 0;
  #collected: Uint8Array | undefined;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** Octets of the current part that are still to come. */
  #left = 0;
  #padding = 0;
  #first = true;

  /** `preface`: the peer is a client and must send the connection preface first. */
  constructor(sink: FrameSink, limits: ReaderLimits, preface: boolean) {
    this.#sink = sink;
    this.#limits = limits;
    this.#state = preface ? 'preface' : 'header';
  }

  /** Throws ConnectionFault; the reader must not be used after that. */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) at = this.#step(chunk, at);
  }

  /** Eats some of chunk from `at`; returns where it stopped, always further on. */
  #step(chunk: Uint8Array, at: number): number {
    switch (this.#state) {
      case 'preface':
        return this.#preface(chunk, at);
      case 'header':
        return this.#header(chunk, at);
      case 'payload':
        return this.#payload(chunk, at);
      case 'pad-length':
        this.#padding = chunk[at] ?? 0;
        if (this.#padding >= this.#left) throw new ConnectionFault(Http2Code.protocolError, 'padding as long as the DATA frame');
        this.#left -= 1 + this.#padding;
        this.#afterPadLength();
        return at + 1;
      case 'data': {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        this.#sink.onData(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end));
        if (this.#left === 0) this.#endData();
        return end;
      }
      case 'padding':
      case 'skip': {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        if (this.#left > 0) return end;
        if (this.#state === 'padding') this.#sink.onDataEnd();
        this.#state = 'header';
        return end;
      }
    }
  }

  #preface(chunk: Uint8Array, at: number): number {
    while (at < chunk.length && this.#have < PREFACE.length) {
      if (chunk[at++] !== PREFACE[this.#have++])
        throw new ConnectionFault(Http2Code.protocolError, 'no HTTP/2 connection preface');
    }
    if (this.#have === PREFACE.length) {
      this.#have = 0;
      this.#state = 'header';
    }
    return at;
  }

  #header(chunk: Uint8Array, at: number): number {
    let head: Uint8Array = this.#head;
    let from = 0;
    if (this.#have === 0 && chunk.length - at >= FRAME_HEADER_SIZE) {
      head = chunk;
      from = at;
      at += FRAME_HEADER_SIZE;
    } else {
      while (at < chunk.length && this.#have < FRAME_HEADER_SIZE) head[this.#have++] = chunk[at++] ?? 0;
      if (this.#have < FRAME_HEADER_SIZE) return at;
      this.#have = 0;
    }
    const length = ((head[from] ?? 0) << 16) | ((head[from + 1] ?? 0) << 8) | (head[from + 2] ?? 0);
    this.#begin(length, head[from + 3] ?? 0, head[from + 4] ?? 0, readUint31(head, from + 5));
    return at;
  }

  #begin(length: number, type: number, flags: number, streamId: number): void {
    if (length > this.#limits.frame) throw new ConnectionFault(Http2Code.frameSizeError, `frame of ${length} octets`);
    if (this.#first && (type !== FrameType.settings || flags & Flag.ack)) {
      throw new ConnectionFault(Http2Code.protocolError, 'the first frame is not SETTINGS');
    }
    this.#first = false;
    this.#type = type;
    this.#flags = flags;
    this.#streamId = streamId;
    this.#left = length;
    if (type === FrameType.data) return this.#beginData(length);
    if (length > this.#limits.collected) {
      if (type <= KNOWN_TYPES)
        throw new ConnectionFault(Http2Code.enhanceYourCalm, `frame of type ${type} with ${length} octets`);
      this.#sink.onFrame(type, flags, streamId, EMPTY);
      this.#state = 'skip';
      return;
    }
    if (length === 0) {
      this.#state = 'header';
      this.#sink.onFrame(type, flags, streamId, EMPTY);
      return;
    }
    this.#state = 'payload';
  }

  #beginData(length: number): void {
    this.#padding = 0;
    if (this.#flags & Flag.padded && length === 0)
      throw new ConnectionFault(Http2Code.frameSizeError, 'padded DATA without octets');
    this.#sink.onDataStart(this.#flags, this.#streamId, length);
    if (this.#flags & Flag.padded) this.#state = 'pad-length';
    else if (length > 0) this.#state = 'data';
    else {
      this.#state = 'header';
      this.#sink.onDataEnd();
    }
  }

  #afterPadLength(): void {
    if (this.#left > 0) this.#state = 'data';
    else this.#endData();
  }

  #endData(): void {
    this.#left = this.#padding;
    this.#state = this.#left > 0 ? 'padding' : 'header';
    if (this.#left === 0) this.#sink.onDataEnd();
  }

  #payload(chunk: Uint8Array, at: number): number {
    const wanted = this.#left - this.#have;
    const end = Math.min(chunk.length, at + wanted);
    if (this.#have === 0 && end - at === wanted) return this.#deliver(chunk.subarray(at, end), end);
    this.#collected ??= new Uint8Array(this.#left);
    this.#collected.set(chunk.subarray(at, end), this.#have);
    this.#have += end - at;
    return end - at === wanted ? this.#deliver(this.#collected, end) : end;
  }

  #deliver(payload: Uint8Array, end: number): number {
    this.#collected = undefined;
    this.#have = 0;
    this.#state = 'header';
    this.#sink.onFrame(this.#type, this.#flags, this.#streamId, payload);
    return end;
  }
}

const EMPTY = new Uint8Array(0);
