// The Reactor over node:net and node:tls: runs wherever Node does, and is the reference that the native backend is tested against.
import { createServer, Socket, type Server } from 'node:net';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import type { HostPort } from '../../address.ts';
import { MeshError } from '../../errors.ts';
import { CancelScope } from '../../lifecycle/cancel.ts';
import { listenTcp } from '../../os/socket-factory.ts';
import { TlsContexts } from '../../tls/context.ts';
import type { TlsSettings } from '../../tls/settings.ts';
import { clientHandshake, serverHandshake } from '../../tls/handshake.ts';
import type { ByteStream, Conn, ConnectOptions, Listener, ListenOptions, Reactor, TlsConn, TlsOptions } from '../api.ts';
import { openTcp } from './connect.ts';
import { warnOf } from '../fault.ts';
import { PortableConn, PortableTlsConn } from './conn.ts';
import { duplexOver } from './duplex.ts';
import type { SocketStream } from './stream.ts';

type Handshake = typeof clientHandshake;

export class PortableReactor implements Reactor {
  readonly backend = 'portable';
  readonly #contexts: TlsContexts;
  readonly #servers = new Set<Server>();
  readonly #conns = new Set<ByteStream>();
  readonly #closed = new CancelScope();

  readonly #onFault: (error: MeshError) => void;

  /** `onFault` is told of what a handler threw. */
  constructor(settings: TlsSettings = {}, onFault: (error: MeshError) => void = warnOf) {
    this.#contexts = new TlsContexts(settings);
    this.#onFault = onFault;
  }

  async listen(options: ListenOptions, onConn: (conn: Conn) => void): Promise<Listener> {
    if (this.#closed.reason) throw this.#closed.reason;
    const { fd, address, transparent } = listenTcp(options);
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      const conn = PortableConn.of(socket);
      if (!conn) return socket.destroy();
      this.#track(conn, socket);
      try {
        onConn(conn);
      } catch (thrown) {
        conn.fail(thrown);
      }
      return undefined;
    });
    server.listen({ fd, ...(options.backlog === undefined ? {} : { backlog: options.backlog }) });
    await once(server, 'listening');
    // accept(2) fails at the limit of open descriptors: the peers wait in the queue, and what is open goes on.
    server.on('error', () => undefined);
    this.#servers.add(server);
    const close = (): void => {
      if (this.#servers.delete(server)) server.close();
    };
    return { address, transparent, close };
  }

  dial(options: ConnectOptions): Promise<Conn> {
    return this.connect(options);
  }

  async connect(options: ConnectOptions): Promise<Conn> {
    const conn = await openTcp(options, this.#closed);
    this.#track(conn, conn.socket);
    if (!this.#closed.reason) return conn;
    // Made before close(), and had only behind it: nobody else would close it.
    conn.reset();
    throw this.#closed.reason;
  }

  tlsClient(conn: Conn, options: TlsOptions): Promise<TlsConn> {
    return this.#overTcp(clientHandshake, conn, options);
  }

  tlsServer(conn: Conn, options: TlsOptions): Promise<TlsConn> {
    return this.#overTcp(serverHandshake, conn, options);
  }

  tlsClientOver(stream: ByteStream, local: HostPort, remote: HostPort, options: TlsOptions): Promise<TlsConn> {
    return this.#over(clientHandshake, duplexOver(stream), local, remote, () => local, options);
  }

  tlsServerOver(stream: ByteStream, local: HostPort, remote: HostPort, options: TlsOptions): Promise<TlsConn> {
    return this.#over(serverHandshake, duplexOver(stream), local, remote, () => local, options);
  }

  defer(task: () => void): void {
    setImmediate(() => {
      try {
        task();
      } catch (thrown) {
        this.#onFault(MeshError.from(thrown));
      }
    });
  }

  close(): void {
    this.#closed.cancel(new MeshError('draining', 'the reactor is closed'));
    for (const server of this.#servers) server.close();
    this.#servers.clear();
    for (const conn of this.#conns) conn.reset();
  }

  #overTcp(handshake: Handshake, conn: Conn, options: TlsOptions): Promise<TlsConn> {
    if (!(conn instanceof PortableConn)) throw new MeshError('internal', 'a handshake needs a connection of the same reactor');
    return this.#over(handshake, conn.socket, conn.local, conn.remote, () => conn.originalDestination(), options);
  }

  async #over(
    handshake: Handshake,
    transport: Duplex,
    local: HostPort,
    remote: HostPort,
    original: () => HostPort,
    options: TlsOptions,
  ): Promise<TlsConn> {
    let context;
    try {
      context = this.#contexts.get(options.certificate);
    } catch (thrown) {
      if (transport instanceof Socket) transport.resetAndDestroy();
      else transport.destroy();
      throw thrown;
    }
    const { revocations } = this.#contexts;
    const secured = await handshake(transport, context, remote, options, revocations).catch((thrown: unknown) => {
      transport.destroy();
      throw thrown;
    });
    const conn = new PortableTlsConn(secured, transport, local, remote, original);
    this.#track(conn, secured.socket);
    return conn;
  }

  #track(conn: SocketStream, socket: Socket): void {
    conn.onFault = this.#onFault;
    this.#conns.add(conn);
    socket.once('close', () => this.#conns.delete(conn));
  }
}
