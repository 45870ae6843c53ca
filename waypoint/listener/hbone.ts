// The socket that tunnels arrive on: accept, mTLS, HTTP/2, then each CONNECT to listener/tunnel.ts.
import type { Clock } from '#shared/clock.ts';
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { HboneServerSession, IncomingTunnel } from '#shared/hbone/api.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { parseSpiffeId, type SpiffeId } from '#shared/ids.ts';
import type { Conn, Listener as Socket, PeerCertificate, Reactor, TlsConn } from '#shared/reactor/api.ts';
import type { Log } from '#shared/telemetry/log.ts';

export interface HboneListenerOptions {
  readonly reactor: Reactor;
  readonly clock: Clock;
  readonly log: Log;
  readonly certificates: CertificateSource;
  readonly identity: SpiffeId;
  readonly trustDomains: readonly string[];
  readonly maxStreams: () => number;
  /** One CONNECT of a verified peer. */
  readonly onTunnel: (tunnel: IncomingTunnel, conn: TlsConn) => void;
}

/** Connections at a time; more are closed at once, before a handshake is spent on them. */
const MAX_CONNECTIONS = 10_000;

export class HboneListener {
  readonly #options: HboneListenerOptions;
  readonly #sessions = new Set<HboneServerSession>();
  #sockets: Socket[] = [];
  #connections = 0;

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
  async listen(address: HostPort): Promise<void> {
    this.#sockets.push(await this.#options.reactor.listen({ address }, (conn) => void this.#accept(conn)));
  }

  /** Stops accepting, tells the peers, and resolves when their last tunnels have ended. */
  async drain(): Promise<void> {
    for (const socket of this.#sockets) socket.close();
    await Promise.all([...this.#sessions].map((session) => session.drain()));
  }

  close(): void {
    for (const socket of this.#sockets) socket.close();
    for (const session of this.#sessions) session.close();
  }

  async #accept(conn: Conn): Promise<void> {
    const { reactor, certificates, identity, clock, log, maxStreams, onTunnel } = this.#options;
    if (this.#connections >= MAX_CONNECTIONS) return conn.reset();
    this.#connections += 1;
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
            this.#connections -= 1;
          },
        },
        (tunnel) => onTunnel(tunnel, tls),
      );
      this.#sessions.add(session);
    } catch (error) {
      this.#connections -= 1;
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
