// HTTP/2 on either side, over the sessions of shared/http2.
import type { Clock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { header } from '#shared/http2/headers.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { BodyHandler, ClientConnection, ClientMessage, MessageStream, ResponseEvents, ServerMessage } from './message.ts';
import { type HeaderPair, Headers, type RequestHead, type ResponseHead } from './request.ts';

export interface H2Deps {
  readonly clock: Clock;
  readonly defer: (task: () => void) => void;
}

export interface H2Server {
  /** Says GOAWAY, serves what is under way, then closes. */
  drain(): void;
  close(): void;
}

const MAX_STREAMS = 100;

export function serveH2(
  stream: ByteStream,
  deps: H2Deps,
  onRequest: (message: ServerMessage) => void,
  onClose: () => void,
): H2Server {
  const session = new Http2Session(stream, {
    role: 'server',
    clock: deps.clock,
    defer: deps.defer,
    settings: { maxStreams: MAX_STREAMS },
    onStream: (request) => {
      if (header(request.headers, ':method') === 'CONNECT') return request.respond(405, [], true);
      onRequest(new H2ServerMessage(request));
    },
    onClose,
  });
  return { drain: () => session.drain(), close: () => session.close() };
}

class H2Body implements MessageStream {
  protected readonly stream: Http2Stream;
  #started = false;

  constructor(stream: Http2Stream) {
    this.stream = stream;
  }

  start(handler: BodyHandler): void {
    this.#started = true;
    this.stream.start({
      onData: (chunk) => handler.onData(chunk),
      onTrailers: (trailers) => handler.onTrailers(copy(trailers)),
      onEnd: () => handler.onEnd(),
      onDrain: () => handler.onDrain(),
      onClose: (reason) => handler.onClose(reason),
    });
  }

  discard(): void {
    if (this.#started) return;
    const ignore = (): void => undefined;
    this.start({ onData: ignore, onTrailers: ignore, onEnd: ignore, onDrain: ignore, onClose: ignore });
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

class H2ServerMessage extends H2Body implements ServerMessage {
  readonly head: RequestHead;
  readonly ended: boolean;

  constructor(stream: Http2Stream) {
    super(stream);
    this.ended = stream.remoteEnded;
    const { headers } = stream;
    const pairs = copy(headers.filter(([name]) => !name.startsWith(':')));
    this.head = {
      method: header(headers, ':method') ?? '',
      path: header(headers, ':path') ?? '/',
      authority: header(headers, ':authority') ?? header(headers, 'host') ?? '',
      scheme: header(headers, ':scheme') ?? 'http',
      protocol: 'HTTP/2',
      headers: new Headers(pairs.filter(([name]) => name !== 'host')),
    };
  }

  inform(head: ResponseHead): void {
    this.stream.respond(head.status, head.headers.pairs);
  }

  respond(head: ResponseHead, ended: boolean): void {
    this.stream.respond(head.status, head.headers.pairs, ended);
  }
}

/** A connection to a backend that speaks HTTP/2 without negotiation. */
export class H2Client implements ClientConnection {
  readonly #session: Http2Session;

  constructor(stream: ByteStream, deps: H2Deps, onChange: () => void) {
    this.#session = new Http2Session(stream, {
      role: 'client',
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

  request(head: RequestHead, ended: boolean, events: ResponseEvents): ClientMessage {
    const pseudo: HeaderList = [
      [':method', head.method],
      [':scheme', head.scheme],
      [':authority', head.authority],
      [':path', head.path],
    ];
    const stream = this.#session.request([...pseudo, ...head.headers.pairs], ended);
    stream.onInformational = (headers) => events.onInformational(responseHead(headers));
    stream.onResponse = (headers, last) => events.onResponse(responseHead(headers), last);
    return new H2Body(stream);
  }

  close(): void {
    this.#session.close();
  }
}

function responseHead(headers: HeaderList): ResponseHead {
  return {
    status: Number(header(headers, ':status') ?? 502),
    headers: new Headers(copy(headers.filter(([name]) => !name.startsWith(':')))),
  };
}

function copy(headers: HeaderList): HeaderPair[] {
  return headers.map(([name, value]) => [name, value]);
}
