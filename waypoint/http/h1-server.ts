// HTTP/1.1 from the client: requests of one connection, one after another, over the reader and writer of shared/http1.
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { header } from '#shared/http2/headers.ts';
import { checkHost, expectsContinue, keepsAlive, type BodyFraming, type RequestHead as WireHead } from '#shared/http1/head.ts';
import { RequestReader } from '#shared/http1/reader.ts';
import { MessageWriter, responseHead } from '#shared/http1/serializer.ts';
import { Http1Fault } from '#shared/http1/strictness.ts';
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import type { BodyHandler, ServerMessage } from './message.ts';
import { type HeaderPair, Headers, type RequestHead, type ResponseHead } from './request.ts';
import { UpgradedStream } from './upgraded.ts';

export interface H1Deps {
  readonly clock: Clock;
  readonly defer: (task: () => void) => void;
}

/** Milliseconds that a client may take for a request head, and that an unused connection is kept. */
const HEAD_TIMEOUT_MS = 60_000;
const IDLE_TIMEOUT_MS = 3_600_000;

export class H1Server {
  readonly #stream: ByteStream;
  readonly #deps: H1Deps;
  readonly #onRequest: (message: ServerMessage) => void;
  readonly #onClose: () => void;
  readonly #reader: RequestReader;
  readonly #writer: MessageWriter;
  #current: H1ServerMessage | undefined;
  /** What came behind the current message. */
  #rest: Uint8Array | undefined;
  #reading = false;
  #ended = false;
  #closed = false;
  #draining = false;
  #timer: Timer | undefined;

  constructor(stream: ByteStream, deps: H1Deps, onRequest: (message: ServerMessage) => void, onClose: () => void) {
    this.#stream = stream;
    this.#deps = deps;
    this.#onRequest = onRequest;
    this.#onClose = onClose;
    this.#writer = new MessageWriter(stream, { defer: deps.defer });
    this.#reader = new RequestReader({
      onHead: (head, framing) => this.#onHead(head, framing),
      onBody: (chunk) => this.#current?.receive(chunk),
      onEnd: (trailers) => this.#current?.receiveEnd(trailers.map(([name, value]) => [name, value])),
    });
    this.#wait(IDLE_TIMEOUT_MS);
    stream.start({
      onData: (chunk) => this.#onData(chunk),
      onEnd: () => this.#onEnd(),
      onDrain: () => this.#current?.drained(),
      onClose: (reason) => this.#onStreamClose(reason),
    });
  }

  /** The request under way is the last one. */
  drain(): void {
    this.#draining = true;
    if (!this.#current && this.#reader.idle) this.#stream.end();
  }

  close(): void {
    this.#stream.reset();
  }

  #onData(chunk: Uint8Array): void {
    if (this.#current?.requestEnded) {
      // A pipelined request waits for its turn, and the client with it.
      this.#rest = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk.slice();
      this.#stream.pause();
      return;
    }
    if (this.#reader.idle) this.#wait(HEAD_TIMEOUT_MS);
    this.#read(chunk);
  }

  #read(chunk: Uint8Array): void {
    this.#reading = true;
    try {
      const stopped = this.#reader.push(chunk);
      if (stopped < chunk.length) {
        this.#rest = chunk.slice(stopped);
        this.#stream.pause();
      }
    } catch (error) {
      this.#refuse(error);
    } finally {
      this.#reading = false;
    }
    this.#next();
  }

  #onHead(head: WireHead, framing: BodyFraming): void {
    checkHost(head);
    this.#timer?.cancel();
    const ended = framing.kind === 'none' || (framing.kind === 'length' && framing.length === 0);
    const message = new H1ServerMessage(head, ended, {
      stream: this.#stream,
      writer: this.#writer,
      reader: this.#reader,
      lastRequest: () => this.#draining,
      onDone: () => this.#next(),
    });
    this.#current = message;
    this.#onRequest(message);
  }

  /** Goes on with the next request when this one has been read and answered. */
  #next(): void {
    const message = this.#current;
    if (!message?.done || this.#reading || this.#closed) return;
    this.#current = undefined;
    if (!message.keepAlive || this.#ended) {
      this.#writer.flush();
      return this.#stream.end();
    }
    this.#wait(IDLE_TIMEOUT_MS);
    const rest = this.#rest;
    this.#rest = undefined;
    if (!rest) return this.#stream.resume();
    // In a later turn: by then the connection to the backend is free again, and a long pipeline does not pile up calls.
    this.#deps.defer(() => {
      if (this.#closed) return;
      this.#stream.resume();
      this.#read(rest);
    });
  }

  #onEnd(): void {
    this.#ended = true;
    const message = this.#current;
    if (!message) return this.#stream.end();
    if (message.requestEnded) return;
    try {
      this.#reader.end();
    } catch {
      message.lost({ kind: 'error', error: new MeshError('reset', 'the client ended within a request') });
      this.#stream.reset();
    }
  }

  #onStreamClose(reason: CloseReason): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#current?.lost(reason);
    this.#onClose();
  }

  /** A request that cannot be understood: one answer, and nothing after it can be trusted. */
  #refuse(error: unknown): void {
    const fault = error instanceof Http1Fault ? error : new Http1Fault(500, MeshError.from(error).message);
    const message = this.#current;
    this.#timer?.cancel();
    if (message?.responded) return this.#stream.reset();
    message?.lost({ kind: 'error', error: fault });
    this.#current = undefined;
    const length: HeaderPair = ['content-length', '0'];
    this.#writer.head(responseHead(fault.status, [length, ['connection', 'close']]), { kind: 'none' });
    this.#writer.flush();
    this.#stream.end();
  }

  #wait(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#deps.clock.after(ms, () => this.#stream.reset());
  }
}

interface MessageHost {
  readonly stream: ByteStream;
  readonly writer: MessageWriter;
  readonly reader: RequestReader;
  lastRequest(): boolean;
  onDone(): void;
}

class H1ServerMessage implements ServerMessage {
  readonly head: RequestHead;
  readonly ended: boolean;
  requestEnded = false;
  responded = false;
  keepAlive: boolean;
  #responseEnded = false;
  readonly #host: MessageHost;
  readonly #wire: WireHead;
  #handler: BodyHandler | undefined;
  #dropping = false;
  #held: Uint8Array[] = [];
  #trailers: readonly HeaderPair[] | undefined;
  #lost: CloseReason | undefined;
  #tunnel: UpgradedStream | undefined;
  #continued: boolean;
  /** The answer to this request has no body, whatever the backend sends. */
  #bodiless = false;

  constructor(wire: WireHead, ended: boolean, host: MessageHost) {
    this.#wire = wire;
    this.#host = host;
    this.ended = ended;
    this.keepAlive = keepsAlive(wire);
    this.#continued = !expectsContinue(wire);
    this.head = readHead(wire);
  }

  get done(): boolean {
    return this.requestEnded && this.#responseEnded && !this.#tunnel;
  }

  // --- the exchange's side ---

  start(handler: BodyHandler): void {
    this.#handler = handler;
    for (const chunk of this.#held.splice(0)) handler.onData(chunk);
    if (this.#trailers) this.#announceEnd(handler, this.#trailers);
    if (this.#lost) handler.onClose(this.#lost);
    else this.resume();
  }

  discard(): void {
    this.#dropping = true;
    this.#held = [];
    // A client that still waits for leave to send its body cannot be told apart from one that sends it.
    if (!this.#continued) this.keepAlive = false;
    this.resume();
  }

  inform(head: ResponseHead): void {
    if (head.status === 100) this.#continued = true;
    this.#host.writer.head(responseHead(head.status, head.headers.pairs), { kind: 'none' });
  }

  respond(head: ResponseHead, ended: boolean): void {
    if (this.#lost) return;
    this.responded = true;
    const { headers } = head;
    const framing = this.#framing(head, ended);
    this.#bodiless = framing.kind === 'none';
    if (this.#host.lastRequest() || !this.#continued) this.keepAlive = false;
    if (framing.kind === 'chunked') headers.append('transfer-encoding', 'chunked');
    if (!this.keepAlive) headers.append('connection', 'close');
    this.#host.writer.head(responseHead(head.status, headers.pairs), framing);
    if (ended) this.#finish();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#lost || this.#bodiless) return true;
    return this.#host.writer.write(chunk);
  }

  end(trailers: readonly HeaderPair[] = []): void {
    if (this.#lost || this.#responseEnded) return;
    if (!this.#host.writer.end(trailers)) return this.reset();
    this.#finish();
  }

  reset(): void {
    this.#host.stream.reset();
  }

  pause(): void {
    this.#host.stream.pause();
  }

  /** Behind the end of the request the connection waits for the answer: pipelined requests must not pile up here. */
  resume(): void {
    if (!this.requestEnded) this.#host.stream.resume();
  }

  upgrade(head: ResponseHead): ByteStream {
    this.responded = true;
    const { writer, reader, stream } = this.#host;
    writer.head(responseHead(head.status, head.headers.pairs), { kind: 'tunnel' });
    writer.flush();
    reader.becomeTunnel();
    this.requestEnded = false;
    this.#tunnel = new UpgradedStream(stream);
    return this.#tunnel;
  }

  // --- the connection's side ---

  receive(chunk: Uint8Array): void {
    if (this.#tunnel) return this.#tunnel.receive(chunk);
    if (this.#dropping) return;
    if (this.#handler) return this.#handler.onData(chunk);
    this.#held.push(chunk.slice());
    this.#host.stream.pause();
  }

  receiveEnd(trailers: readonly HeaderPair[]): void {
    if (this.#tunnel) return this.#tunnel.receiveEnd();
    this.requestEnded = true;
    this.#trailers = trailers;
    if (this.#handler) this.#announceEnd(this.#handler, trailers);
  }

  drained(): void {
    if (this.#tunnel) this.#tunnel.drained();
    else this.#handler?.onDrain();
  }

  lost(reason: CloseReason): void {
    if (this.#lost) return;
    this.#lost = reason;
    if (this.#tunnel) this.#tunnel.lost(reason);
    else this.#handler?.onClose(reason);
  }

  #announceEnd(handler: BodyHandler, trailers: readonly HeaderPair[]): void {
    if (trailers.length > 0) handler.onTrailers(trailers);
    handler.onEnd();
  }

  #framing(head: ResponseHead, ended: boolean): BodyFraming {
    const { status, headers } = head;
    if (this.#wire.method === 'HEAD' || status === 204 || status === 304) return { kind: 'none' };
    const length = headers.get('content-length');
    if (length !== undefined) return ended ? { kind: 'none' } : { kind: 'length', length: Number(length) };
    if (ended) headers.append('content-length', '0');
    return ended ? { kind: 'none' } : { kind: 'chunked' };
  }

  #finish(): void {
    this.#responseEnded = true;
    this.#host.onDone();
  }
}

/** The target in its parts; `http://host/path` names the authority itself (RFC 9112 3.2.2). */
function readHead(wire: WireHead): RequestHead {
  const absolute = /^(https?):\/\/([^/?#]*)([^#]*)/iu.exec(wire.target);
  const path = absolute ? absolute[3] || '/' : wire.target;
  const pairs: HeaderPair[] = wire.headers.filter(([name]) => name !== 'host').map(([name, value]) => [name, value]);
  return {
    method: wire.method,
    path: path.startsWith('?') ? `/${path}` : path,
    authority: absolute?.[2] ?? header(wire.headers, 'host') ?? '',
    scheme: 'http',
    protocol: wire.version === '1.0' ? 'HTTP/1.0' : 'HTTP/1.1',
    headers: new Headers(pairs),
  };
}
