// The Reactor over epoll and OpenSSL, on the loop of the thread that makes it.
import type { HostPort } from '../../address.ts';
import { IdTable, nextId } from '../../collections/id-table.ts';
import { MeshError } from '../../errors.ts';
import { CancelScope } from '../../lifecycle/cancel.ts';
import { listenTcp, type AcceptedSocket } from '../../os/socket-factory.ts';
import { SpareDescriptor } from '../../os/spare-descriptor.ts';
import type { TlsSettings } from '../../tls/settings.ts';
import { SslContexts } from '../../tls/openssl-context.ts';
import type {
  ByteStream,
  Conn,
  ConnectOptions,
  DetachedConn,
  Listener,
  ListenOptions,
  Reactor,
  TlsConn,
  TlsOptions,
} from '../api.ts';
import { Connector } from './connect.ts';
import type { ConnectedSocket } from './connect.ts';
import { NativeListener, type Shedding } from './listener.ts';
import { threadLoop, type Watch } from './loop.ts';
import { NativeConn } from './tcp.ts';
import { NativeTlsConn } from './tls.ts';

export interface NativeHooks {
  /** A connection was refused because no descriptor was left. */
  onShed?: Shedding['onShed'];
  /** A handler of this thread threw; its connection was ended. */
  onFault?: (error: MeshError) => void;
}

export class NativeReactor implements Reactor {
  readonly backend = 'native';
  readonly #loop = threadLoop();
  readonly #contexts: SslContexts;
  readonly #shedding: Shedding;
  readonly #listeners = new Set<NativeListener>();
  readonly #conns = new IdTable<NativeConn>();
  readonly #closed = new CancelScope();
  readonly #connector = new Connector(this.#loop, this.#closed);

  constructor(settings: TlsSettings = {}, { onShed = () => undefined, onFault }: NativeHooks = {}) {
    this.#contexts = new SslContexts(settings);
    this.#shedding = { spare: new SpareDescriptor(), onShed };
    if (!onFault) return;
    this.#loop.faultListeners.add(onFault);
    this.#closed.add({ id: nextId(), onCancel: () => this.#loop.faultListeners.delete(onFault) });
  }

  async listen(options: ListenOptions, onConn: (conn: Conn) => void): Promise<Listener> {
    if (this.#closed.reason) throw this.#closed.reason;
    const onAccept = ({ fd, remote }: AcceptedSocket): void => {
      const conn = this.#adopt(fd, remote);
      try {
        onConn(conn);
      } catch (thrown) {
        this.#loop.report(conn.onFault(thrown));
      }
    };
    const listener = new NativeListener(this.#loop, listenTcp(options), onAccept, this.#shedding);
    this.#listeners.add(listener);
    const close = (): void => {
      this.#listeners.delete(listener);
      listener.close();
    };
    return { address: listener.address, transparent: listener.transparent, close };
  }

  async connect(options: ConnectOptions): Promise<Conn> {
    return await this.dial(options);
  }

  dial(options: ConnectOptions): Conn | Promise<Conn> {
    const opened = this.#connector.open(options);
    const adopt = ({ fd, watch }: ConnectedSocket): Conn => this.#adopt(fd, options.to, watch);
    return opened instanceof Promise ? opened.then((socket) => this.#unlessClosed(adopt(socket))) : adopt(opened);
  }

  adopt({ fd, remote, unsent }: DetachedConn): Conn {
    const conn = this.#adopt(fd, remote);
    if (unsent.length > 0) conn.write(unsent);
    return conn;
  }

  tlsClient(conn: Conn, options: TlsOptions): Promise<TlsConn> {
    return this.#secure(conn, 'client', conn, options);
  }

  tlsServer(conn: Conn, options: TlsOptions): Promise<TlsConn> {
    return this.#secure(conn, 'server', conn, options);
  }

  tlsClientOver(stream: ByteStream, local: HostPort, remote: HostPort, options: TlsOptions): Promise<TlsConn> {
    return this.#secure(stream, 'client', { local, remote, originalDestination: () => local }, options);
  }

  tlsServerOver(stream: ByteStream, local: HostPort, remote: HostPort, options: TlsOptions): Promise<TlsConn> {
    return this.#secure(stream, 'server', { local, remote, originalDestination: () => local }, options);
  }

  defer(task: () => void): void {
    this.#loop.defer(task);
  }

  close(): void {
    if (this.#closed.reason) return;
    this.#closed.cancel(new MeshError('draining', 'the reactor is closed'));
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
    for (const conn of this.#conns.all()) conn.reset();
    this.#shedding.spare.close();
  }

  #secure(
    transport: ByteStream,
    side: 'client' | 'server',
    ends: Pick<Conn, 'local' | 'remote' | 'originalDestination'>,
    options: TlsOptions,
  ): Promise<TlsConn> {
    let session;
    try {
      session = this.#contexts.get(options.certificate, options.alpn)[side]();
    } catch (thrown) {
      transport.reset();
      return Promise.reject(MeshError.from(thrown));
    }
    return NativeTlsConn.open(this.#loop, transport, session, ends, options);
  }

  /** Of a connection that was made before close(), and is had only behind it: nobody else would close it. */
  #unlessClosed(conn: Conn): Conn {
    if (!this.#closed.reason) return conn;
    conn.reset();
    throw this.#closed.reason;
  }

  #adopt(fd: number, remote: HostPort, watch?: Watch): NativeConn {
    const conn = new NativeConn(this.#loop, fd, remote, this.#conns, watch);
    this.#conns.add(conn);
    return conn;
  }
}
