// Pairs of TLS endpoints in one process, over loopback connections of the native backend.
import type { Conn, Listener, Reactor, TlsConn } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { workloadCertificate } from './certificates.ts';

export interface Pair {
  readonly client: TlsConn;
  readonly server: TlsConn;
}

export class TlsPairs implements Disposable {
  readonly #reactor: Reactor;
  readonly #options = { certificate: workloadCertificate(), alpn: ['h2'], verifyPeer: (): void => undefined };
  readonly #waiting = new Map<number, (conn: TlsConn) => void>();
  #listener: Listener | undefined;

  private constructor() {
    this.#reactor = createReactor({ backend: 'native' });
  }

  static async open(): Promise<TlsPairs> {
    const pairs = new TlsPairs();
    pairs.#listener = await pairs.#reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn) => void pairs.#serve(conn));
    return pairs;
  }

  /** Connects and shakes hands: each side proves its identity and verifies the other's chain. */
  async next(): Promise<Pair> {
    if (!this.#listener) throw new Error('the pairs are not open');
    const conn = await this.#reactor.connect({ to: this.#listener.address });
    const server = new Promise<TlsConn>((resolve) => this.#waiting.set(conn.local.port, resolve));
    const client = await this.#reactor.tlsClient(conn, this.#options);
    return { client, server: await server };
  }

  [Symbol.dispose](): void {
    this.#reactor.close();
  }

  async #serve(conn: Conn): Promise<void> {
    const served = await this.#reactor.tlsServer(conn, this.#options);
    const { port } = conn.remote;
    this.#waiting.get(port)?.(served);
    this.#waiting.delete(port);
  }
}
