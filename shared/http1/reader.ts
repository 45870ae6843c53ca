// Reads messages off a connection, one at a time: head, body, end. It stops behind each message, so that a pipelined next one waits
// until its user is ready.
import { Buffer } from 'node:buffer';
import type { HeaderList } from '../http2/headers.ts';
import { type BodyReader, bodyReader } from './body.ts';
import { type BodyFraming, requestFraming, type RequestHead, responseFraming, type ResponseHead } from './head.ts';
import { RequestScanner, ResponseScanner } from './scanner.ts';
import { DEFAULT_LIMITS, Http1Fault, type Http1Limits } from './strictness.ts';

export interface MessageSink<Head> {
  onHead(head: Head, framing: BodyFraming): void;
  /** A piece of the body, or of a tunnel's octets. Valid during the call. */
  onBody(chunk: Uint8Array): void;
  /** The message is complete. Not called for an interim 1xx head, nor for a tunnel until the connection ends. */
  onEnd(trailers: HeaderList): void;
}

/** Requests of one connection. */
export class RequestReader {
  #core: MessageReader<RequestHead>;

  constructor(sink: MessageSink<RequestHead>, limits: Partial<Http1Limits> = {}) {
    const all = { ...DEFAULT_LIMITS, ...limits };
    this.#core = new MessageReader(sink, new RequestScanner(all), all, 400, requestFraming);
  }

  /**
   * Eats chunk from `from` and returns where it stopped: at the end of the chunk, or behind a message. Octets behind it are the next
   * message: push the rest when ready for that. Throws Http1Fault; nothing more can be read then.
   */
  push(chunk: Uint8Array, from = 0): number {
    return this.#core.push(chunk, from);
  }

  /** An accepted CONNECT or upgrade: everything from here on is the tunnel's, given to onBody. */
  becomeTunnel(): void {
    this.#core.become({ kind: 'tunnel' });
  }

  /** No octet of a next message has come. */
  get idle(): boolean {
    return this.#core.idle;
  }

  /** The peer ended its sending direction. Throws Http1Fault when that cuts a message. */
  end(): void {
    this.#core.end();
  }
}

/** Responses of one connection. */
export class ResponseReader {
  #core: MessageReader<ResponseHead>;
  /** Methods of the requests that wait for their response, oldest first. */
  #methods: string[] = [];

  constructor(sink: MessageSink<ResponseHead>, limits: Partial<Http1Limits> = {}) {
    const all = { ...DEFAULT_LIMITS, ...limits };
    this.#core = new MessageReader(sink, new ResponseScanner(all), all, 502, (head) => this.#framingOf(head));
  }

  /** A request was sent: its method decides how the response is framed. */
  expect(method: string): void {
    this.#methods.push(method);
  }

  /** As RequestReader.push(). */
  push(chunk: Uint8Array, from = 0): number {
    return this.#core.push(chunk, from);
  }

  get idle(): boolean {
    return this.#core.idle;
  }

  /** The peer ended its sending direction. Throws Http1Fault when that cuts a message or leaves a request unanswered. */
  end(): void {
    this.#core.end();
    if (this.#methods.length > 0) throw new Http1Fault(502, 'the connection ended before the response');
  }

  #framingOf(head: ResponseHead): BodyFraming | undefined {
    const method = this.#methods[0];
    if (method === undefined) throw new Http1Fault(502, 'a response without a request');
    const framing = responseFraming(head, method);
    if (head.status < 200 && head.status !== 101) return undefined;
    if (this.#methods.length === 1) this.#methods.pop();
    else this.#methods.shift();
    return framing;
  }
}

const NO_BODY: BodyFraming = { kind: 'none' };

interface Scanner<Head> {
  head: Head | undefined;
  readonly started: boolean;
  push(chunk: Buffer, from: number): number;
}

class MessageReader<Head> {
  #sink: MessageSink<Head>;
  #scanner: Scanner<Head>;
  #limits: Http1Limits;
  #status: number;
  /** Undefined for an interim head, behind which the message goes on. */
  #framingOf: (head: Head) => BodyFraming | undefined;
  #body: BodyReader | undefined;

  constructor(
    sink: MessageSink<Head>,
    scanner: Scanner<Head>,
    limits: Http1Limits,
    status: number,
    framingOf: (head: Head) => BodyFraming | undefined,
  ) {
    this.#sink = sink;
    this.#scanner = scanner;
    this.#limits = limits;
    this.#status = status;
    this.#framingOf = framingOf;
  }

  get idle(): boolean {
    return !this.#body && !this.#scanner.started;
  }

  push(chunk: Uint8Array, from: number): number {
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (!this.#body) {
      const at = this.#scanner.push(bytes, from);
      const head = this.#scanner.head;
      if (!head) return at;
      this.#scanner.head = undefined;
      this.#begin(head);
      from = at;
    }
    const at = this.#body ? this.#body.push(bytes, from, this.#sink) : from;
    if (this.#body?.done) this.#finish(this.#body);
    return at;
  }

  become(framing: BodyFraming): void {
    this.#body = bodyReader(framing, this.#limits, this.#status);
  }

  end(): void {
    const body = this.#body;
    if (this.#scanner.started || (body && !body.finish()))
      throw new Http1Fault(this.#status, 'the connection ended within a message');
    if (body) this.#finish(body);
  }

  #begin(head: Head): void {
    const framing = this.#framingOf(head);
    if (framing) this.#body = bodyReader(framing, this.#limits, this.#status);
    this.#sink.onHead(head, framing ?? NO_BODY);
  }

  #finish(body: BodyReader): void {
    this.#body = undefined;
    this.#sink.onEnd(body.trailers);
  }
}
