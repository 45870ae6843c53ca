// A request of an HTTP/1.1 connection as the exchange sees it: what the connection's reader finds in it is handed over, what the exchange
// answers is written.
import { header, type HeaderList } from '#shared/http2/headers.ts';
import { expectsContinue, keepsAlive, type BodyFraming, type RequestHead as WireHead } from '#shared/http1/head.ts';
import type { RequestReader } from '#shared/http1/reader.ts';
import type { MessageWriter } from '#shared/http1/serializer.ts';
import { Http1Fault, isHost } from '#shared/http1/strictness.ts';
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import type { BodyHandler, ServerMessage } from './message.ts';
import { type HeaderPair, Headers, type RequestHead, type ResponseHead } from './request.ts';
import { UpgradedStream } from './upgraded.ts';

/** The connection that a message came on. */
export interface MessageHost {
  readonly stream: ByteStream;
  readonly writer: MessageWriter;
  readonly reader: RequestReader;
  /** Behind its answer the connection ends. */
  readonly lastRequest: boolean;
  /** The client has sent its last octet. */
  readonly ended: boolean;
  /** Gives away what came behind the message. */
  takeRest(): Uint8Array | undefined;
  onDone(): void;
}

export class H1ServerMessage implements ServerMessage {
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
  /** Made when something must wait: most requests never have it. */
  #held: Uint8Array[] | undefined;
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

  /** Behind the last answer nobody waits for the rest of the request. */
  get done(): boolean {
    return this.#responseEnded && (this.requestEnded || !this.keepAlive) && !this.#tunnel;
  }

  // --- the exchange's side ---

  start(handler: BodyHandler): void {
    this.#handler = handler;
    if (this.#held) for (const chunk of this.#held.splice(0)) handler.onData(chunk);
    if (this.#trailers) this.#announceEnd(handler, this.#trailers);
    if (this.#lost) handler.onClose(this.#lost);
    else this.resume();
  }

  discard(): void {
    this.#dropping = true;
    this.#held = undefined;
    // A client that still waits for leave to send its body cannot be told apart from one that sends it.
    if (!this.#continued) this.keepAlive = false;
    this.resume();
  }

  inform(head: ResponseHead): void {
    if (head.status === 100) this.#continued = true;
    this.#host.writer.response(head.status, head.headers.pairs, NO_BODY);
  }

  respond(head: ResponseHead, ended: boolean): void {
    if (this.#lost) return;
    this.responded = true;
    const { headers } = head;
    const framing = this.#framing(head, ended);
    this.#bodiless = framing.kind === 'none';
    if (this.#host.lastRequest || !this.#continued) this.keepAlive = false;
    if (framing.kind === 'chunked') headers.append('transfer-encoding', 'chunked');
    if (!this.keepAlive) headers.append('connection', 'close');
    this.#host.writer.response(head.status, headers.pairs, framing);
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
    writer.response(head.status, head.headers.pairs, { kind: 'tunnel' });
    writer.flush();
    reader.becomeTunnel();
    this.requestEnded = false;
    const tunnel = new UpgradedStream(stream);
    this.#tunnel = tunnel;
    // Clients may speak the new protocol before they hear that it was taken.
    const early = this.#host.takeRest();
    if (early) tunnel.receive(early);
    if (this.#host.ended) tunnel.receiveEnd();
    return tunnel;
  }

  // --- the connection's side ---

  receive(chunk: Uint8Array): void {
    if (this.#tunnel) return this.#tunnel.receive(chunk);
    if (this.#dropping) return;
    if (this.#handler) return this.#handler.onData(chunk);
    (this.#held ??= []).push(Uint8Array.from(chunk));
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
    if (this.#wire.method === 'HEAD' || status === 204 || status === 304) return NO_BODY;
    const length = headers.get('content-length');
    if (length !== undefined) return ended ? NO_BODY : { kind: 'length', length: Number(length) };
    if (ended) headers.append('content-length', '0');
    return ended ? NO_BODY : CHUNKED;
  }

  #finish(): void {
    this.#responseEnded = true;
    this.#host.onDone();
  }
}

/** The target in its parts; `http://host/path` names the authority itself (RFC 9112 3.2.2). */
function readHead(wire: WireHead): RequestHead {
  const { method, target, headers } = wire;
  const absolute = target.startsWith('/') ? null : /^(https?):\/\/([^/?#]*)([^#]*)/iu.exec(target);
  const path = absolute ? absolute[3] || '/' : target;
  const authority = absolute?.[2] ?? header(headers, 'host') ?? '';
  if (absolute && !isHost(authority)) throw new Http1Fault(400, 'the request target names no host');
  return {
    method,
    path: path.startsWith('?') ? `/${path}` : path,
    authority,
    scheme: 'http',
    protocol: wire.version === '1.0' ? 'HTTP/1.0' : 'HTTP/1.1',
    headers: new Headers(withoutHost(headers)),
  };
}

function withoutHost(headers: HeaderList): HeaderPair[] {
  const pairs: HeaderPair[] = [];
  for (const pair of headers) if (pair[0] !== 'host') pairs.push(pair);
  return pairs;
}

const NO_BODY: BodyFraming = { kind: 'none' };
const CHUNKED: BodyFraming = { kind: 'chunked' };
