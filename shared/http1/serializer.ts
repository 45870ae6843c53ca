// Writes messages: head, body in its framing, trailers. Small pieces of one turn leave in one write.
import { Buffer } from 'node:buffer';
import { STATUS_CODES } from 'node:http';
import { MeshError } from '../errors.ts';
import { assertSendable, type HeaderList } from '../http2/headers.ts';
import { BufferPool } from '../http2/output.ts';
import type { ByteStream } from '../reactor/api.ts';
import type { BodyFraming } from './head.ts';
import { isTarget, isToken } from './strictness.ts';

/** Throws `internal` when a part cannot be sent: foreign text must not become lines of its own. */
export function requestHead(method: string, target: string, headers: HeaderList): string {
  if (!isToken(method) || !isTarget(method, target))
    throw new MeshError('internal', `request line ${JSON.stringify([method, target])}`);
  return `${method} ${target} HTTP/1.1\r\n${fieldLines(headers)}\r\n`;
}

/** Throws `internal` when a part cannot be sent. `reason`: the standard phrase when left out. */
export function responseHead(status: number, headers: HeaderList, reason: string = STATUS_CODES[status] ?? ''): string {
  if (!/^[\t\u0020-\u007e\u0080-\u00ff]*$/u.test(reason)) throw new MeshError('internal', 'the reason phrase cannot be sent');
  return `HTTP/1.1 ${status} ${reason}\r\n${fieldLines(headers)}\r\n`;
}

/** The fields that announce a framing; none for `none`, `until-close` and `tunnel`. */
export function framingHeaders(framing: BodyFraming): HeaderList {
  if (framing.kind === 'chunked') return [['transfer-encoding', 'chunked']];
  return framing.kind === 'length' ? [['content-length', String(framing.length)]] : [];
}

function fieldLines(headers: HeaderList): string {
  assertSendable(headers);
  let lines = '';
  for (const [name, value] of headers) lines += `${name}: ${value}\r\n`;
  return lines;
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
  #framing: BodyFraming = { kind: 'none' };
  #left = 0;

  constructor(stream: Pick<ByteStream, 'write' | 'end'>, options: WriterOptions = {}) {
    this.#stream = stream;
    this.#defer = options.defer ?? setImmediate;
    this.#pool = options.buffers ?? new BufferPool(GATHER, 1);
  }

  /** Starts a message. `head`: of requestHead() or responseHead(), with the fields that announce `framing`. */
  head(head: string, framing: BodyFraming): void {
    this.#framing = framing;
    this.#left = framing.kind === 'length' ? framing.length : 0;
    this.#text(head);
  }

  /** Writes body octets. False: hold back until the stream's onDrain. Throws `internal` when they pass the announced length. */
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
        const more = this.#bytes(chunk);
        this.#text('\r\n');
        return more;
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
    if (kind === 'chunked') this.#text(`0\r\n${fieldLines(trailers)}\r\n`);
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
    if (!buffer) return true;
    const length = this.#length;
    this.#length = 0;
    this.#buffer = undefined;
    const more = this.#stream.write(buffer.subarray(0, length));
    this.#pool.give(buffer);
    return more;
  }

  #text(text: string): void {
    const buffer = this.#room(text.length);
    this.#length += buffer.write(text, this.#length, 'latin1');
  }

  #bytes(chunk: Uint8Array): boolean {
    if (chunk.length < GATHER / 2) {
      this.#room(chunk.length).set(chunk, this.#length);
      this.#length += chunk.length;
      return true;
    }
    this.flush();
    return this.#stream.write(chunk);
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
