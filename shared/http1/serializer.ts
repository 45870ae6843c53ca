// Writes messages: head, body in its framing, trailers. Small pieces of one turn leave in one write.
import { Buffer } from 'node:buffer';
import { http } from '../node-http.ts';
import { MeshError } from '../errors.ts';
import type { HeaderList } from '../http2/headers.ts';
import { BufferPool } from '../http2/output.ts';
import type { ByteStream } from '../reactor/api.ts';
import type { BodyFraming } from './head.ts';
import { isTarget, isToken } from './strictness.ts';

/** The fields that announce a framing; none for `none`, `until-close` and `tunnel`. */
export function framingHeaders(framing: BodyFraming): HeaderList {
  if (framing.kind === 'chunked') return [['transfer-encoding', 'chunked']];
  return framing.kind === 'length' ? [['content-length', String(framing.length)]] : [];
}

/** Octets gathered before they go to the stream within the turn. */
const GATHER = 16_384;

export interface WriterOptions {
  /** Runs a task at the end of the turn (Reactor.defer); default setImmediate. */
  defer?: (task: () => void) => void;
  /** Shared by the writers of a thread, so that an idle connection holds no buffer. */
  buffers?: BufferPool;
}

/** Writes the messages of one connection, one after the other. */
export class MessageWriter {
  #stream: Pick<ByteStream, 'write' | 'end'>;
  #defer: (task: () => void) => void;
  #pool: BufferPool;
  #flushTask = (): void => void this.flush();
  #buffer: Buffer | undefined;
  #length = 0;
  #due = false;
  /** The stream asked for a pause, be it when the gathered octets went out, long after they were taken. */
  #blocked = false;
  #framing: BodyFraming = { kind: 'none' };
  #left = 0;

  constructor(stream: Pick<ByteStream, 'write' | 'end'>, options: WriterOptions = {}) {
    this.#stream = stream;
    this.#defer = options.defer ?? setImmediate;
    this.#pool = options.buffers ?? new BufferPool(GATHER, 1);
  }

  /**
   * Starts a request. `host` goes before the other fields; `headers` must announce `framing`. Throws `internal` when a part cannot be
   * sent, and nothing of it is written then: foreign text must not become lines of its own.
   */
  request(method: string, target: string, host: string | undefined, headers: HeaderList, framing: BodyFraming): void {
    if (!isToken(method) || !isTarget(method, target))
      throw new MeshError('internal', `request line ${JSON.stringify([method, target])}`);
    const buffer = this.#room(method.length + target.length + fieldsSize(headers) + (host?.length ?? 0) + LINES_SIZE);
    let at = put(buffer, this.#length, method);
    buffer[at++] = SPACE;
    at = put(buffer, at, target);
    at = put(buffer, at, ' HTTP/1.1\r\n');
    if (host !== undefined) at = putField(buffer, at, 'host', host);
    this.#begin(putFields(buffer, at, headers), framing);
  }

  /** Starts a response, as request() does. `reason`: the standard phrase when left out. */
  response(status: number, headers: HeaderList, framing: BodyFraming, reason: string = http.STATUS_CODES[status] ?? ''): void {
    const buffer = this.#room(reason.length + fieldsSize(headers) + LINES_SIZE);
    let at = put(buffer, this.#length, 'HTTP/1.1 ');
    at = put(buffer, at, String(status));
    buffer[at++] = SPACE;
    at = putValue(buffer, at, reason, 'the reason phrase');
    at = put(buffer, at, '\r\n');
    this.#begin(putFields(buffer, at, headers), framing);
  }

  /**
   * Writes body octets. False: hold back until the stream's onDrain, which drained() must hear of. Throws `internal` when they pass the
   * announced length.
   */
  write(chunk: Uint8Array): boolean {
    if (chunk.length === 0) return true;
    switch (this.#framing.kind) {
      case 'none':
        throw new MeshError('internal', 'a message without a body got one');
      case 'length':
        this.#left -= chunk.length;
        if (this.#left < 0) throw new MeshError('internal', 'a body is longer than its content-length');
        return this.#bytes(chunk);
      case 'chunked': {
        this.#text(`${chunk.length.toString(16)}\r\n`);
        this.#bytes(chunk);
        this.#text('\r\n');
        return !this.#blocked;
      }
      case 'until-close':
      case 'tunnel':
        return this.#bytes(chunk);
    }
  }

  /**
   * Ends the message. Trailers are sent in chunked framing only and left out in others. `until-close` and `tunnel` end the stream.
   * False when the body is shorter than announced: the connection must be reset then.
   */
  end(trailers: HeaderList = []): boolean {
    const { kind } = this.#framing;
    this.#framing = { kind: 'none' };
    if (kind === 'chunked') this.#lastChunk(trailers);
    if (kind === 'until-close' || kind === 'tunnel') {
      this.flush();
      this.#stream.end();
    }
    return this.#left === 0;
  }

  /** Sends what was gathered; done by itself at the end of the turn. False when the stream wants a pause. */
  flush(): boolean {
    this.#due = false;
    const buffer = this.#buffer;
    if (!buffer) return !this.#blocked;
    const length = this.#length;
    this.#length = 0;
    this.#buffer = undefined;
    if (length > 0) this.#blocked = !this.#stream.write(buffer.subarray(0, length));
    this.#pool.give(buffer);
    return !this.#blocked;
  }

  /** The stream wants a pause: what was written waits in this process. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** The stream takes more. */
  drained(): void {
    this.#blocked = false;
  }

  /** The head ends at `end` of the buffer. */
  #begin(end: number, framing: BodyFraming): void {
    this.#length = end;
    this.#framing = framing;
    this.#left = framing.kind === 'length' ? framing.length : 0;
  }

  #lastChunk(trailers: HeaderList): void {
    const buffer = this.#room(fieldsSize(trailers) + LINES_SIZE);
    this.#length = putFields(buffer, put(buffer, this.#length, '0\r\n'), trailers);
  }

  #text(text: string): void {
    const buffer = this.#room(text.length);
    this.#length = put(buffer, this.#length, text);
  }

  #bytes(chunk: Uint8Array): boolean {
    if (chunk.length < this.#pool.size / 2) {
      this.#room(chunk.length).set(chunk, this.#length);
      this.#length += chunk.length;
    } else {
      this.flush();
      this.#blocked = !this.#stream.write(chunk);
    }
    return !this.#blocked;
  }

  #room(octets: number): Buffer {
    if (this.#buffer && this.#length + octets > this.#buffer.length) this.flush();
    if (!this.#due) {
      this.#due = true;
      this.#defer(this.#flushTask);
    }
    return (this.#buffer ??= octets > this.#pool.size ? Buffer.allocUnsafeSlow(octets) : this.#pool.take());
  }
}

/** Room for a request or status line, a Host field, and what stands between the parts. */
const LINES_SIZE = 64;
const TAB = 9;
const LF = 10;
const CR = 13;
const SPACE = 0x20;
const COLON = 0x3a;

function fieldsSize(headers: HeaderList): number {
  let size = 0;
  for (const field of headers) size += field[0].length + field[1].length + 4;
  return size;
}

// A head is written in one pass that also checks it. All of these return where they stopped.

/** `text` is known to be ASCII. */
function put(buffer: Uint8Array, at: number, text: string): number {
  for (let i = 0; i < text.length; i += 1) buffer[at++] = text.charCodeAt(i);
  return at;
}

/** The fields and the empty line behind them. */
function putFields(buffer: Uint8Array, at: number, headers: HeaderList): number {
  for (const field of headers) at = putField(buffer, at, field[0], field[1]);
  buffer[at++] = CR;
  buffer[at++] = LF;
  return at;
}

function putField(buffer: Uint8Array, at: number, name: string, value: string): number {
  if (!isToken(name)) throw new MeshError('internal', `header name ${JSON.stringify(name.slice(0, 64))} cannot be sent`);
  at = put(buffer, at, name);
  buffer[at++] = COLON;
  buffer[at++] = SPACE;
  if (isPadded(value)) throw unsendable(name);
  at = putValue(buffer, at, value, name);
  buffer[at++] = CR;
  buffer[at++] = LF;
  return at;
}

/** No control but TAB, and nothing that is no octet. */
function putValue(buffer: Uint8Array, at: number, value: string, what: string): number {
  for (let i = 0; i < value.length; i += 1) {
    const code = value.charCodeAt(i);
    if ((code < SPACE && code !== TAB) || code === 0x7f || code > 0xff) throw unsendable(what);
    buffer[at++] = code;
  }
  return at;
}

/** White space at an end. */
function isPadded(value: string): boolean {
  const first = value.charCodeAt(0);
  const last = value.charCodeAt(value.length - 1);
  return first === SPACE || first === TAB || last === SPACE || last === TAB;
}

function unsendable(what: string): MeshError {
  return new MeshError('internal', `${what} holds what cannot be sent`);
}
