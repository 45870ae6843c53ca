// Reads the body of a message by its framing and finds its end. Octets are handed on in the pieces they came in.
import type { HeaderList } from '../http2/headers.ts';
import type { BodyFraming } from './head.ts';
import { parseFields } from './scanner.ts';
import { Http1Fault, type Http1Limits } from './strictness.ts';

export interface BodySink {
  /** A piece of the body, valid during the call. */
  onBody(chunk: Uint8Array): void;
}

export interface BodyReader {
  /** Eats chunk from `from` up to the end of the body; returns where it stopped. Throws Http1Fault. */
  push(chunk: Buffer, from: number, sink: BodySink): number;
  readonly done: boolean;
  /** Trailers of a chunked body that is done; empty when it had none. */
  readonly trailers: HeaderList;
  /** The connection ended: false when that cuts the body. */
  finish(): boolean;
}

/** `status`: of its faults, 400 in requests and 502 in responses. */
export function bodyReader(framing: BodyFraming, limits: Http1Limits, status: number): BodyReader {
  switch (framing.kind) {
    case 'none':
      return NO_BODY;
    case 'length':
      return framing.length === 0 ? NO_BODY : new LengthReader(framing.length);
    case 'chunked':
      return new ChunkedReader(limits, status);
    case 'until-close':
    case 'tunnel':
      return new OpenReader();
  }
}

const NO_TRAILERS: HeaderList = [];

class LengthReader implements BodyReader {
  readonly trailers = NO_TRAILERS;
  #left: number;

  constructor(length: number) {
    this.#left = length;
  }

  get done(): boolean {
    return this.#left === 0;
  }

  push(chunk: Buffer, from: number, sink: BodySink): number {
    const end = Math.min(chunk.length, from + this.#left);
    this.#left -= end - from;
    if (end > from) sink.onBody(chunk.subarray(from, end));
    return end;
  }

  finish(): boolean {
    return this.done;
  }
}

/** It is done from the start and holds nothing, so every message may have the same one. */
const NO_BODY = new LengthReader(0);

class OpenReader implements BodyReader {
  readonly trailers = NO_TRAILERS;
  done = false;

  push(chunk: Buffer, from: number, sink: BodySink): number {
    if (from < chunk.length) sink.onBody(chunk.subarray(from));
    return chunk.length;
  }

  finish(): boolean {
    this.done = true;
    return true;
  }
}

const CR = 13;
const LF = 10;

/** 15 hexadecimal digits would pass 2^53. */
const MAX_SIZE_DIGITS = 13;

type ChunkState = 'size' | 'extension' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | 'trailers' | 'done';

class ChunkedReader implements BodyReader {
  trailers = NO_TRAILERS;
  #limits: Http1Limits;
  #status: number;
  #state: ChunkState = 'size';
  #size = 0;
  #digits = 0;
  #extensions = 0;
  #trailerText = '';

  constructor(limits: Http1Limits, status: number) {
    this.#limits = limits;
    this.#status = status;
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  finish(): boolean {
    return this.done;
  }

  push(chunk: Buffer, from: number, sink: BodySink): number {
    let at = from;
    while (at < chunk.length && this.#state !== 'done') {
      if (this.#state === 'data') {
        const end = Math.min(chunk.length, at + this.#size);
        this.#size -= end - at;
        if (this.#size === 0) this.#state = 'data-cr';
        sink.onBody(chunk.subarray(at, end));
        at = end;
      } else this.#octet(chunk[at++] ?? 0);
    }
    return at;
  }

  #octet(octet: number): void {
    switch (this.#state) {
      case 'size':
        return this.#sizeOctet(octet);
      case 'extension':
        if (octet === CR) this.#state = 'size-lf';
        else if ((octet < 0x20 && octet !== 9) || octet === 0x7f) throw this.#fault('a control character in a chunk extension');
        else if (++this.#extensions > this.#limits.chunkExtensions) throw this.#fault('too many chunk extensions');
        return;
      case 'size-lf':
        this.#expect(octet, LF);
        this.#state = this.#size === 0 ? 'trailers' : 'data';
        return;
      case 'data-cr':
        this.#expect(octet, CR);
        this.#state = 'data-lf';
        return;
      case 'data-lf':
        this.#expect(octet, LF);
        this.#state = 'size';
        this.#digits = 0;
        return;
      case 'trailers':
        return this.#trailerOctet(octet);
      case 'data':
      case 'done':
        return;
    }
  }

  #sizeOctet(octet: number): void {
    const digit = hexDigit(octet);
    if (digit >= 0) {
      if (++this.#digits > MAX_SIZE_DIGITS) throw this.#fault('chunk size too long');
      this.#size = this.#size * 16 + digit;
      return;
    }
    if (this.#digits === 0) throw this.#fault('no chunk size');
    if (octet === CR) this.#state = 'size-lf';
    else if (octet === 0x3b) this.#state = 'extension';
    else throw this.#fault('no chunk size');
  }

  #trailerOctet(octet: number): void {
    const last = this.#trailerText.charCodeAt(this.#trailerText.length - 1);
    if (last === CR ? octet !== LF : octet === LF || (octet < 0x20 && octet !== 9 && octet !== CR) || octet === 0x7f) {
      throw this.#fault('a broken line in the trailers');
    }
    this.#trailerText += String.fromCharCode(octet);
    if (this.#trailerText.length > this.#limits.trailerSize) throw this.#fault('trailers too large');
    if (octet !== LF || !(this.#trailerText === '\r\n' || this.#trailerText.endsWith('\r\n\r\n'))) return;
    const text = this.#trailerText.slice(0, -2);
    this.trailers = parseFields(text, 0, this.#limits.headers, this.#status);
    for (const [name] of this.trailers) if (FORBIDDEN.has(name)) throw this.#fault(`${name} in the trailers`);
    this.#trailerText = '';
    this.#state = 'done';
  }

  #expect(octet: number, wanted: number): void {
    if (octet !== wanted) throw this.#fault('no line end where a chunk needs one');
  }

  #fault(what: string): Http1Fault {
    return new Http1Fault(this.#status, `chunked body: ${what}`);
  }
}

/** Fields that would change how the message is framed or routed (RFC 9110, section 6.5.1). */
const FORBIDDEN = new Set(['content-length', 'transfer-encoding', 'host', 'connection', 'upgrade', 'te', 'trailer']);

function hexDigit(octet: number): number {
  if (octet >= 0x30 && octet <= 0x39) return octet - 0x30;
  const lower = octet | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
