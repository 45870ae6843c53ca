// HTTP/1.1 to a backend: one request at a time on one connection, which then is free for the next.
import { MeshError } from '#shared/errors.ts';
import { type BodyFraming, keepsAlive, type ResponseHead as WireHead } from '#shared/http1/head.ts';
import { ResponseReader } from '#shared/http1/reader.ts';
import { MessageWriter } from '#shared/http1/serializer.ts';
import type { BufferPool } from '#shared/http2/output.ts';
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import type { BodyHandler, ClientConnection, ClientMessage, ResponseEvents } from './message.ts';
import { upgradeOf } from './hop-by-hop.ts';
import { type HeaderPair, Headers, type RequestHead } from './request.ts';
import { UpgradedStream } from './upgraded.ts';

export interface H1ClientDeps {
  readonly defer: (task: () => void) => void;
  /** Of the writers of all connections. */
  readonly buffers: BufferPool;
}

export class H1Client implements ClientConnection {
  readonly #stream: ByteStream;
  readonly #onChange: () => void;
  readonly #reader: ResponseReader;
  readonly #writer: MessageWriter;
  #current: H1ClientMessage | undefined;
  #tunnel: UpgradedStream | undefined;
  #usable = true;
  #keepAlive = true;
  readonly #onSent = (): void => this.#release();

  /** `onChange`: free for another request, or closed. */
  constructor(stream: ByteStream, deps: H1ClientDeps, onChange: () => void) {
    this.#stream = stream;
    this.#onChange = onChange;
    this.#writer = new MessageWriter(stream, deps);
    this.#reader = new ResponseReader({
      onHead: (head, framing) => this.#onHead(head, framing),
      onBody: (chunk) => (this.#tunnel ? this.#tunnel.receive(chunk) : this.#current?.handler?.onData(chunk)),
      onEnd: (trailers) => this.#onMessageEnd(trailers),
    });
    stream.start({
      onData: (chunk) => this.#onData(chunk),
      onEnd: () => this.#onEnd(),
      onDrain: () => this.#onDrain(),
      onClose: (reason) => this.#lost(reason),
    });
  }

  get available(): number {
    return this.#usable && !this.#current ? 1 : 0;
  }

  get usable(): boolean {
    return this.#usable;
  }

  request(head: RequestHead, ended: boolean, events: ResponseEvents): ClientMessage {
    if (this.available === 0) throw new MeshError('internal', 'an HTTP/1.1 connection got a second request');
    const message = new H1ClientMessage(this.#stream, this.#writer, events, this.#onSent, upgradeOf(head.headers));
    this.#current = message;
    const length = ended ? undefined : head.headers.get('content-length');
    const framing: BodyFraming = ended ? NO_BODY : length === undefined ? CHUNKED : { kind: 'length', length: Number(length) };
    if (framing === CHUNKED) head.headers.append('transfer-encoding', 'chunked');
    // Some servers want to hear that a method that may have a body has none (RFC 9110, section 8.6).
    else if (ended && !BODILESS.has(head.method) && !head.headers.has('content-length'))
      head.headers.append('content-length', '0');
    this.#reader.expect(head.method);
    try {
      this.#writer.request(head.method, head.path, head.authority, head.headers.pairs, framing);
    } catch (error) {
      this.close();
      throw error;
    }
    if (ended) message.sent = true;
    return message;
  }

  returnUnused(): void {
    if (this.available > 0) this.#onChange();
  }

  close(): void {
    this.#usable = false;
    this.#stream.end();
    this.#stream.reset();
  }

  #onData(chunk: Uint8Array): void {
    if (!this.#current && !this.#tunnel)
      return this.#fail(new MeshError('protocol_error', 'the backend sent bytes that nobody asked for'));
    try {
      let at = this.#reader.push(chunk);
      while (at < chunk.length) {
        if (!this.#current) return this.#fail(new MeshError('protocol_error', 'the backend sent more than its answer'));
        if (this.#current.givenUp) return undefined;
        // An interim head ends a push as well: what follows belongs to the same answer.
        at = this.#reader.push(chunk, at);
      }
      return undefined;
    } catch (error) {
      return this.#fail(MeshError.from(error, 'protocol_error'));
    }
  }

  #onDrain(): void {
    this.#writer.drained();
    if (this.#tunnel) this.#tunnel.drained();
    else this.#current?.handler?.onDrain();
  }

  #onHead(wire: WireHead, framing: BodyFraming): void {
    const message = this.#current;
    if (!message) return;
    const head = { status: wire.status, headers: new Headers(wire.headers) };
    if (wire.status === 101) return this.#upgrade(message, head);
    if (wire.status < 200) return message.events.onInformational(head);
    this.#keepAlive = keepsAlive(wire) && framing.kind !== 'until-close';
    const ended = framing.kind === 'none' || (framing.kind === 'length' && framing.length === 0);
    message.events.onResponse(head, ended);
  }

  #upgrade(message: H1ClientMessage, head: { status: number; headers: Headers }): void {
    // Also from a protocol to none: only the one that was asked for may follow (RFC 9110, section 7.8).
    if (!message.events.onUpgrade || message.upgrade === undefined || upgradeOf(head.headers) !== message.upgrade)
      return this.#fail(new MeshError('protocol_error', 'the backend switched protocols unasked'));
    head.headers.remove('content-length');
    this.#usable = false;
    this.#tunnel = new UpgradedStream(this.#stream);
    message.events.onUpgrade(head, this.#tunnel);
  }

  #onMessageEnd(trailers: readonly HeaderPair[]): void {
    if (this.#tunnel) return this.#tunnel.receiveEnd();
    const message = this.#current;
    if (!message) return;
    message.received = true;
    if (trailers.length > 0) message.handler?.onTrailers(trailers);
    message.handler?.onEnd();
    this.#release();
  }

  /** Both directions of the message are over. */
  #release(): void {
    const message = this.#current;
    if (!message?.received || this.#tunnel) return;
    this.#current = undefined;
    // An answer before the end of the request leaves the rest of the request on the connection.
    if (!message.sent || !this.#keepAlive) return this.#fail(undefined);
    // Held back for the last octets of the answer, by whoever waits for them still: the next one is another's.
    this.#stream.resume();
    if (this.#usable) this.#onChange();
  }

  #onEnd(): void {
    this.#usable = false;
    if (this.#tunnel) return this.#tunnel.receiveEnd();
    try {
      this.#reader.end();
      this.#stream.end();
    } catch {
      this.#fail(new MeshError('reset', 'the backend closed the connection before the end of its answer'));
    }
    this.#onChange();
  }

  #fail(error: MeshError | undefined): void {
    this.#usable = false;
    const message = this.#current;
    this.#current = undefined;
    if (error) message?.handler?.onClose({ kind: 'error', error });
    this.#stream.end();
    this.#stream.reset();
    this.#onChange();
  }

  #lost(reason: CloseReason): void {
    this.#usable = false;
    const message = this.#current;
    this.#current = undefined;
    if (this.#tunnel) this.#tunnel.lost(reason);
    else message?.handler?.onClose(reason);
    this.#onChange();
  }
}

const NO_BODY: BodyFraming = { kind: 'none' };
const CHUNKED: BodyFraming = { kind: 'chunked' };
/** Of which no server expects a body: Envoy's list, but for CONNECT, which is not sent. */
const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'TRACE']);

class H1ClientMessage implements ClientMessage {
  readonly events: ResponseEvents;
  handler: BodyHandler | undefined;
  /** The request is complete. */
  sent = false;
  /** The answer is complete. */
  received = false;
  /** Nobody waits for the answer any more. */
  givenUp = false;
  readonly #stream: ByteStream;
  readonly #writer: MessageWriter;
  readonly #onSent: () => void;
  /** The protocol that the request asks for. */
  readonly upgrade: string | undefined;

  constructor(
    stream: ByteStream,
    writer: MessageWriter,
    events: ResponseEvents,
    onSent: () => void,
    upgrade: string | undefined,
  ) {
    this.#stream = stream;
    this.#writer = writer;
    this.events = events;
    this.#onSent = onSent;
    this.upgrade = upgrade;
  }

  start(handler: BodyHandler): void {
    this.handler = handler;
  }

  write(chunk: Uint8Array): boolean {
    return this.#over ? true : this.#writer.write(chunk);
  }

  end(trailers: readonly HeaderPair[] = []): void {
    if (this.#over) return;
    if (!this.#writer.end(trailers)) return this.reset();
    this.sent = true;
    this.#onSent();
  }

  reset(): void {
    if (this.givenUp || (this.sent && this.received)) return;
    this.givenUp = true;
    this.#stream.reset();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  get #over(): boolean {
    return this.givenUp || this.sent || this.received;
  }
}
