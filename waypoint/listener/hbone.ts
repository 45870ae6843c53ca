// The socket that tunnels arrive on: accept, mTLS, HTTP/2, then each CONNECT to listener/tunnel.ts.
import type { Clock } from '#shared/clock.ts';
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { HboneServerSession, IncomingTunnel } from '#shared/hbone/api.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { parseSpiffeId, type SpiffeId } from '#shared/ids.ts';
import type { ConnectionLimit } from '#shared/lifecycle/connection-limit.ts';
import type { Conn, ListenOptions, Listener as Socket, PeerCertificate, Reactor, TlsConn } from '#shared/reactor/api.ts';
import type { Log } from '#shared/telemetry/log.ts';

export interface HboneListenerOptions {
  readonly reactor: Reactor;
  readonly clock: Clock;
  readonly log: Log;
  readonly certificates: CertificateSource;
  readonly identity: SpiffeId;
  readonly trustDomains: readonly string[];
  readonly maxStreams: () => number;
  /** More than it allows are closed at once, before a handshake is spent on them. */
  readonly limit: ConnectionLimit;
  /** Gives a connection that has its place to another thread; false: it stays here. */
  readonly handOn?: (conn: Conn) => boolean;
  /** One CONNECT of a verified peer. */
  readonly onTunnel: (tunnel: IncomingTunnel, conn: TlsConn) => void;
}

export class HboneListener {
  readonly #options: HboneListenerOptions;
  readonly #sessions = new Set<HboneServerSession>();
  #sockets: Socket[] = [];
  #draining = false;

  constructor(options: HboneListenerOptions) {
    this.#options = options;
  }

  get sessions(): number {
    return this.#sessions.size;
  }

  /** Where it listens; for port 0. */
  get address(): HostPort | undefined {
    return this.#sockets[0]?.address;
  }

  /** Rejects when the port is taken. */
  async listen(options: ListenOptions): Promise<void> {
    this.#sockets.push(await this.#options.reactor.listen(options, (conn) => this.#accept(conn)));
  }

  /** Serves a connection that another thread accepted, and that has its place. */
  adopt(conn: Conn): void {
    if (!this.#draining) return void this.#serve(conn);
    this.#options.limit.leave();
    return conn.reset();
  }

  /** Stops accepting, tells the peers, and resolves when their last tunnels have ended. */
  async drain(): Promise<void> {
    this.#draining = true;
    for (const socket of this.#sockets) socket.close();
    await Promise.all([...this.#sessions].map((session) => session.drain()));
  }

  close(): void {
    for (const socket of this.#sockets) socket.close();
    for (const session of this.#sessions) session.close();
  }

  #accept(conn: Conn): void {
    const { limit, handOn, log } = this.#options;
    try {
      limit.enter('hbone');
    } catch (error) {
      log.warn('connection refused', { src: conn.remote.ip, error: MeshError.from(error) });
      return conn.reset();
    }
    if (!handOn?.(conn)) void this.#serve(conn);
  }

  /** Never rejects. */
  async #serve(conn: Conn): Promise<void> {
    const { reactor, certificates, identity, clock, limit, log, maxStreams, onTunnel } = this.#options;
    try {
      const certificate = await certificates.get(identity);
      const tls = await reactor.tlsServer(conn, { certificate, alpn: ['h2'], verifyPeer: (peer) => this.#verify(peer) });
      const session: HboneServerSession = serveHbone(
        tls,
        {
          reactor,
          clock,
          maxStreams: maxStreams(),
          onClose: () => {
            this.#sessions.delete(session);
            limit.leave();
          },
        },
        (tunnel) => onTunnel(tunnel, tls),
      );
      this.#sessions.add(session);
    } catch (error) {
      limit.leave();
      conn.reset();
      log.warn('connection refused', { src: conn.remote.ip, error: MeshError.from(error, 'tls_failure') });
    }
  }

  #verify(peer: PeerCertificate): void {
    // Policy will ask for the first one, so that is the one to check.
    const identity = parseSpiffeId(peer.uris[0] ?? '');
    if (identity && this.#options.trustDomains.includes(identity.trustDomain)) return;
    throw new MeshError('identity_mismatch', `the peer's identity ${peer.uris.join(', ') || '(none)'} is of no trusted domain`);
  }
}
