// The HBONE side that accepts: CONNECT requests of one TLS connection, handed over one by one.
import type { Clock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { Http2Code } from '../http2/frames.ts';
import { header, type HeaderList } from '../http2/headers.ts';
import { DEFAULT_KEEPALIVE, Keepalive, type KeepaliveOptions } from '../http2/keepalive.ts';
import type { BufferPool } from '../http2/output.ts';
import { Http2Session } from '../http2/session.ts';
import type { LocalSettings } from '../http2/settings.ts';
import type { Http2Stream } from '../http2/stream.ts';
import type { StreamOpener } from '../http2/stream-user.ts';
import { CancelScope, type CancelSignal } from '../lifecycle/cancel.ts';
import type { ByteStream, CloseReason, Reactor, TlsConn } from '../reactor/api.ts';
import { atAge } from './age.ts';
import type { HboneServerSession, IncomingTunnel } from './api.ts';

export interface ServeOptions {
  reactor: Pick<Reactor, 'defer'>;
  clock: Clock;
  buffers?: BufferPool;
  /** Tunnels open at a time; more are answered REFUSED_STREAM. Default 200. */
  maxStreams?: number;
  keepalive?: KeepaliveOptions;
  settings?: Partial<LocalSettings>;
  /** Milliseconds after which it takes no more tunnels and ends with its last one. Default: never. */
  maxAge?: number;
  /** Once, when the connection is over. `error`: why. */
  onClose?(reason: CloseReason): void;
}

/** Serves `conn`, which must not have been started, until it closes. Requests that are not CONNECT are answered 400 here. */
export function serveHbone(conn: TlsConn, options: ServeOptions, onTunnel: (tunnel: IncomingTunnel) => void): HboneServerSession {
  const closed = Promise.withResolvers<void>();
  const session = new Http2Session(conn, {
    role: 'server',
    clock: options.clock,
    defer: (task) => options.reactor.defer(task),
    settings: { maxStreams: options.maxStreams ?? 200, earlyData: true, ...options.settings },
    ...(options.buffers ? { buffers: options.buffers } : {}),
    onStream: (stream) => {
      const tunnel = new ServerTunnel(stream);
      if (tunnel.isConnect) onTunnel(tunnel);
      else tunnel.refuse(400);
    },
    onClose: (reason) => {
      keepalive.stop();
      aged?.cancel();
      closed.resolve();
      options.onClose?.(reason);
    },
  });
  const keepalive = new Keepalive(session, options.clock, options.keepalive ?? DEFAULT_KEEPALIVE);
  const aged = options.maxAge ? atAge(options.clock, options.maxAge, () => session.drain()) : undefined;
  return {
    conn,
    drain: () => {
      session.drain();
      return closed.promise;
    },
    close: (reason) => session.close(reason),
  };
}

class ServerTunnel implements IncomingTunnel, StreamOpener {
  readonly method: string;
  readonly authority: string;
  readonly headers: HeaderList;
  #stream: Http2Stream;
  #gone: CancelScope | undefined;

  constructor(stream: Http2Stream) {
    this.#stream = stream;
    this.method = header(stream.headers, ':method') ?? '';
    this.authority = header(stream.headers, ':authority') ?? '';
    this.headers = stream.headers.filter(([name]) => !name.startsWith(':'));
    stream.opener = this;
  }

  onAbandoned(): void {
    if (!this.#stream.answered) this.#gone?.cancel(gone());
  }

  get isConnect(): boolean {
    return this.method === 'CONNECT' && header(this.#stream.headers, ':protocol') === undefined;
  }

  get cancel(): CancelSignal {
    if (!this.#gone) {
      this.#gone = new CancelScope();
      if (this.#stream.closed && !this.#stream.answered) this.#gone.cancel(gone());
    }
    return this.#gone;
  }

  get bytesWait(): boolean {
    return this.#stream.held > 0;
  }

  takeBytes(): Uint8Array | undefined {
    return this.#stream.takeHeld();
  }

  accept(headers: HeaderList): ByteStream {
    this.#stream.opener = undefined;
    this.#stream.respond(200, headers);
    this.#stream.dropHead();
    return this.#stream;
  }

  refuse(status: number, headers: HeaderList = []): void {
    // Behind an answer there is only the end.
    if (this.#stream.answered) return this.#stream.reset(Http2Code.internalError);
    // What came along with the request has no reader, and would keep the stream open.
    this.#stream.takeHeld();
    this.#stream.respond(status, headers, true);
    // The answer is complete, so what the peer may still send is of no use (RFC 9113, section 8.1).
    return this.#stream.reset(Http2Code.noError);
  }
}

function gone(): MeshError {
  return new MeshError('reset', 'the peer gave the tunnel up before it was answered');
}
