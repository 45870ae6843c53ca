// HTTP/2 on either side, over the sessions of shared/http2.
import { nextId } from '#shared/collections/id-table.ts';
import type { Clock } from '#shared/clock.ts';
import { Http2Code } from '#shared/http2/frames.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { header } from '#shared/http2/headers.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import { type Expiring, type Expiry, IDLE_TIMEOUT_MS } from '../expiry.ts';
import type { BodyHandler, ClientConnection, ClientMessage, MessageStream, ResponseEvents, ServerMessage } from './message.ts';
import { type HeaderPair, Headers, type RequestHead, type ResponseHead } from './request.ts';

export interface H2Deps {
  readonly clock: Clock;
  readonly defer: (task: () => void) => void;
}

export interface H2ServerDeps extends H2Deps {
  readonly expiry: Expiry;
}

const MAX_STREAMS = 100;

/** HTTP/2 from the client. */
export class H2Server implements Expiring {
  readonly id = nextId();
  deadline = Infinity;
  readonly #session: Http2Session;
  readonly #expiry: Expiry;

  constructor(stream: ByteStream, deps: H2ServerDeps, onRequest: (message: ServerMessage) => void, onClose: () => void) {
    this.#expiry = deps.expiry;
    this.#session = new Http2Session(stream, {
      role: 'server',
      clock: deps.clock,
      defer: deps.defer,
      settings: { maxStreams: MAX_STREAMS },
      onStream: (request) => {
        this.deadline = Infinity;
        if (header(request.headers, ':method') === 'CONNECT') return refuseConnect(request);
        onRequest(new H2ServerMessage(request));
      },
      onChange: () => this.#rest(),
      onClose: () => {
        this.#expiry.delete(this);
        onClose();
      },
    });
    this.#expiry.add(this);
    this.#rest();
  }

  /** No request came in time. */
  onDeadline(): void {
    this.drain();
  }

  /** Says GOAWAY, serves what is under way, then closes. */
  drain(): void {
    this.#session.drain();
  }

  /** GOAWAY has told it. */
  endIdle(): void {}

  close(): void {
    this.#session.close();
  }

  #rest(): void {
    if (this.#session.streams === 0) this.#expiry.set(this, IDLE_TIMEOUT_MS);
  }
}

/** The answer is complete, so what the client would still send is of no use (RFC 9113, section 8.1): nobody reads it. */
function refuseConnect(request: Http2Stream): void {
  request.respond(405, [], true);
  if (!request.remoteEnded) request.reset(Http2Code.noError);
}

class H2Body implements MessageStream {
  protected readonly stream: Http2Stream;
  #started = false;

  constructor(stream: Http2Stream) {
    this.stream = stream;
  }

  start(handler: BodyHandler): void {
    this.#started = true;
    this.stream.start(handler);
  }

  discard(): void {
    if (!this.#started) this.start(NOBODY);
  }

  write(chunk: Uint8Array): boolean {
    return this.stream.write(chunk);
  }

  end(trailers?: readonly HeaderPair[]): void {
    this.stream.endWith(trailers && trailers.length > 0 ? trailers : undefined);
  }

  reset(): void {
    this.stream.reset();
  }

  pause(): void {
    this.stream.pause();
  }

  resume(): void {
    this.stream.resume();
  }
}

const ignore = (): void => undefined;
/** Reads and drops. */
const NOBODY: BodyHandler = { onData: ignore, onTrailers: ignore, onEnd: ignore, onDrain: ignore, onClose: ignore };

class H2ServerMessage extends H2Body implements ServerMessage {
  readonly head: RequestHead;
  readonly ended: boolean;

  constructor(stream: Http2Stream) {
    super(stream);
    this.ended = stream.remoteEnded;
    this.head = readHead(stream.headers);
  }

  inform(head: ResponseHead): void {
    this.stream.respond(head.status, head.headers.pairs);
  }

  respond(head: ResponseHead, ended: boolean): void {
    this.stream.respond(head.status, head.headers.pairs, ended);
  }
}

/** The session has checked that the pseudo headers are all there and come first. */
function readHead(headers: HeaderList): RequestHead {
  let [method, path, scheme] = ['', '/', 'http'];
  let authority: string | undefined;
  let host: string | undefined;
  let cookies = -1;
  const pairs: HeaderPair[] = [];
  for (const pair of headers) {
    const value = pair[1];
    switch (pair[0]) {
      case ':method':
        method = value;
        break;
      case ':path':
        path = value;
        break;
      case ':scheme':
        scheme = value;
        break;
      case ':authority':
        authority = value;
        break;
      case ':protocol':
        break;
      case 'host':
        host ??= value;
        break;
      case 'cookie':
        cookies = addCookie(pairs, cookies, pair);
        break;
      default:
        pairs.push(pair);
    }
  }
  return { method, path, authority: authority ?? host ?? '', scheme, protocol: 'HTTP/2', headers: new Headers(pairs) };
}

/** Joins what HTTP/2 lets a client cut (RFC 9113, section 8.2.3): for policies, too, it is one field. `at`, -1 for none yet: where it is. */
function addCookie(pairs: HeaderPair[], at: number, pair: HeaderPair): number {
  const first = pairs[at];
  if (!first) return pairs.push(pair) - 1;
  // An empty one would leave white space at the end, which no field may have.
  if (pair[1] !== '') pairs[at] = ['cookie', `${first[1]}; ${pair[1]}`];
  return at;
}

/** A connection to a backend that speaks HTTP/2 without negotiation. */
export class H2Client implements ClientConnection {
  readonly #session: Http2Session;

  constructor(stream: ByteStream, deps: H2Deps, onChange: () => void) {
    this.#session = new Http2Session(stream, {
      role: 'client',
      anonymous: true,
      clock: deps.clock,
      defer: deps.defer,
      onChange,
      onClose: onChange,
    });
  }

  get available(): number {
    return this.#session.available;
  }

  get usable(): boolean {
    return this.#session.usable;
  }

  /** No request is under way. */
  get idle(): boolean {
    return this.#session.streams === 0;
  }

  request(head: RequestHead, ended: boolean, events: ResponseEvents): ClientMessage {
    const headers: HeaderPair[] = [
      [':method', head.method],
      [':scheme', head.scheme],
      [':authority', head.authority],
      [':path', head.path],
    ];
    for (const pair of head.headers.pairs) headers.push(pair);
    const stream = this.#session.request(headers, ended);
    stream.opener = {
      onInformational: (headers) => events.onInformational(responseHead(headers)),
      onResponse: (headers, last) => events.onResponse(responseHead(headers), last),
    };
    return new H2Body(stream);
  }

  /** Others share it from the start, and once the backend has sent its SETTINGS its idle time is counted. */
  returnUnused(): void {}

  close(): void {
    this.#session.close();
  }
}

function responseHead(headers: HeaderList): ResponseHead {
  let status = 502;
  const pairs: HeaderPair[] = [];
  for (const pair of headers)
    if (pair[0] === ':status') status = Number(pair[1]);
    else pairs.push(pair);
  return { status, headers: new Headers(pairs) };
}
