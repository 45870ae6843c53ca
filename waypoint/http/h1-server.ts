// HTTP/1.1 from the client: requests of one connection, one after another, over the reader and writer of shared/http1.
import { nextId } from '#shared/collections/id-table.ts';
import { MeshError } from '#shared/errors.ts';
import type { BodyFraming, RequestHead as WireHead } from '#shared/http1/head.ts';
import { RequestReader } from '#shared/http1/reader.ts';
import { MessageWriter } from '#shared/http1/serializer.ts';
import { Http1Fault } from '#shared/http1/strictness.ts';
import { Http2Code } from '#shared/http2/frames.ts';
import type { BufferPool } from '#shared/http2/output.ts';
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import { type Expiring, type Expiry, IDLE_TIMEOUT_MS } from '../expiry.ts';
import { H1ServerMessage, type MessageHost } from './h1-message.ts';
import type { ServerMessage } from './message.ts';

export interface H1Deps {
  readonly expiry: Expiry;
  readonly defer: (task: () => void) => void;
  /** Of the writers of all connections. */
  readonly buffers: BufferPool;
}

/** Milliseconds that a client may take for a request head. */
const HEAD_TIMEOUT_MS = 60_000;
/** Milliseconds that a client has to close behind the last answer once all of it has left: Envoy's default delayed_close_timeout. */
const CLOSE_TIMEOUT_MS = 1000;
/** Milliseconds that a client may take none of the last answer: as long as an Envoy lets a stream be idle. */
const UNREAD_TIMEOUT_MS = 300_000;

export class H1Server implements MessageHost, Expiring {
  readonly stream: ByteStream;
  readonly reader: RequestReader;
  readonly writer: MessageWriter;
  readonly id = nextId();
  deadline = Infinity;
  ended = false;
  readonly #deps: H1Deps;
  readonly #onRequest: (message: ServerMessage) => void;
  readonly #onClose: () => void;
  readonly #onRefused: (status: number) => void;
  #current: H1ServerMessage | undefined;
  /** What came behind the current message. */
  #rest: Uint8Array | undefined;
  #reading = false;
  #closed = false;
  #draining = false;
  /** The last answer is out: what still comes is no request and is dropped. */
  #over = false;
  /** Octets of the last answer that the client has not taken, and since how many looks it took none. */
  #unread: { readonly octets: number; looks: number } | undefined;

  /** `onRefused` hears how a head that could not be understood was answered: it is no request. */
  constructor(
    stream: ByteStream,
    deps: H1Deps,
    onRequest: (message: ServerMessage) => void,
    onClose: () => void,
    onRefused: (status: number) => void = () => undefined,
  ) {
    this.stream = stream;
    this.#deps = deps;
    this.#onRequest = onRequest;
    this.#onClose = onClose;
    this.#onRefused = onRefused;
    this.writer = new MessageWriter(stream, deps);
    this.reader = new RequestReader({
      onHead: (head, framing) => this.#onHead(head, framing),
      onBody: (chunk) => this.#current?.receive(chunk),
      onEnd: (trailers) => this.#current?.receiveEnd(trailers),
    });
    deps.expiry.add(this);
    deps.expiry.set(this, IDLE_TIMEOUT_MS);
    stream.start({
      onData: (chunk) => this.#onData(chunk),
      onEnd: () => this.#onEnd(),
      onDrain: () => this.#onDrain(),
      onClose: (reason) => this.#onStreamClose(reason),
    });
  }

  /** No request came in time, or not all of its head; or the client did not close behind the last answer. */
  onDeadline(): void {
    if (!this.#over) return this.stream.reset();
    const { buffered } = this.stream;
    // All of the answer has left, and stays good (RFC 9113, section 8.1).
    if (buffered === 0) return this.stream.reset(Http2Code.noError);
    if (this.#unread?.octets !== buffered) this.#unread = { octets: buffered, looks: 0 };
    this.#unread.looks += 1;
    if (this.#unread.looks * CLOSE_TIMEOUT_MS > UNREAD_TIMEOUT_MS) return this.stream.reset();
    return this.#deps.expiry.set(this, CLOSE_TIMEOUT_MS);
  }

  /** The request under way, or the next one, is the last: its answer says so. */
  drain(): void {
    this.#draining = true;
  }

  endIdle(): void {
    if (!this.#current && !this.#rest && this.reader.idle) this.#leave();
  }

  get lastRequest(): boolean {
    return this.#draining;
  }

  takeRest(): Uint8Array | undefined {
    const rest = this.#rest;
    this.#rest = undefined;
    return rest;
  }

  close(): void {
    this.stream.reset();
  }

  #onData(chunk: Uint8Array): void {
    if (this.#over) return;
    if (this.#current?.requestEnded) {
      // A pipelined request waits for its turn, and the client with it.
      this.#rest = this.#rest ? Buffer.concat([this.#rest, chunk]) : Uint8Array.from(chunk);
      this.stream.pause();
      return;
    }
    this.#read(chunk);
  }

  #read(chunk: Uint8Array): void {
    const { idle } = this.reader;
    this.#reading = true;
    try {
      const stopped = this.reader.push(chunk);
      if (stopped < chunk.length) {
        this.#rest = Uint8Array.from(chunk.subarray(stopped));
        this.stream.pause();
      }
    } catch (error) {
      this.#refuse(error);
    } finally {
      this.#reading = false;
    }
    this.onDone();
    // Part of a head.
    if (idle && !this.#current && !this.reader.idle && !this.#over) this.#deps.expiry.set(this, HEAD_TIMEOUT_MS);
  }

  #onHead(head: WireHead, framing: BodyFraming): void {
    this.deadline = Infinity;
    const ended = framing.kind === 'none' || (framing.kind === 'length' && framing.length === 0);
    const message = new H1ServerMessage(head, ended, this);
    this.#current = message;
    this.#onRequest(message);
  }

  #onDrain(): void {
    this.writer.drained();
    this.#current?.drained();
    this.onDone();
  }

  /**
   * A message has been answered: goes on with the next one when it has been read, too, and the client takes its answers. Who only asks
   * would fill our memory with them.
   */
  onDone(): void {
    const message = this.#current;
    if (!message?.done || this.#reading || this.#closed) return;
    if (this.writer.blocked && message.keepAlive && !this.ended) return;
    this.#current = undefined;
    if (!message.keepAlive || this.ended) {
      if (!message.requestEnded) message.lost({ kind: 'reset', remote: false });
      return this.#leave();
    }
    this.#deps.expiry.set(this, IDLE_TIMEOUT_MS);
    if (!this.#rest) return this.stream.resume();
    // In a later turn: by then the connection to the backend is free again, and a long pipeline does not pile up calls.
    return this.#deps.defer(() => this.#readRest());
  }

  #readRest(): void {
    const rest = this.#closed ? undefined : this.takeRest();
    if (!rest) return;
    this.stream.resume();
    this.#read(rest);
  }

  #onEnd(): void {
    this.ended = true;
    const message = this.#current;
    if (!message) return this.stream.end();
    if (message.requestEnded) return;
    try {
      this.reader.end();
    } catch {
      message.lost({ kind: 'error', error: new MeshError('reset', 'the client ended within a request') });
      this.stream.reset();
    }
  }

  #onStreamClose(reason: CloseReason): void {
    this.#closed = true;
    this.#deps.expiry.delete(this);
    this.#current?.lost(reason);
    this.#onClose();
  }

  /** A request that cannot be understood: one answer, and nothing after it can be trusted. */
  #refuse(error: unknown): void {
    const fault = error instanceof Http1Fault ? error : new Http1Fault(500, MeshError.from(error).message);
    const message = this.#current;
    if (message?.responded) return this.stream.reset();
    if (message) message.lost({ kind: 'error', error: fault });
    else this.#onRefused(fault.status);
    this.#current = undefined;
    this.writer.response(fault.status, CLOSING, { kind: 'none' });
    this.#leave();
  }

  /** The last answer is written. */
  #leave(): void {
    this.#over = true;
    this.#rest = undefined;
    this.writer.flush();
    // Who waited for a turn that does not come must still be heard when it ends: only then is the stream over.
    this.stream.resume();
    this.stream.end();
    this.#deps.expiry.set(this, CLOSE_TIMEOUT_MS);
  }
}

const CLOSING = [
  ['content-length', '0'],
  ['connection', 'close'],
] as const;
