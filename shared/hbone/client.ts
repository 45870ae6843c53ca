// One HBONE connection as its client: dial, check who answers, and open CONNECT tunnels on it. The pool decides which tunnel goes
// on which connection; double HBONE uses a connection over a tunnel of another.
import { http } from '../node-http.ts';
import { formatHostPort, type HostPort } from '../address.ts';
import type { Clock } from '../clock.ts';
import { nextId } from '../collections/id-table.ts';
import { MeshError } from '../errors.ts';
import { DEFAULT_KEEPALIVE, Keepalive, type KeepaliveOptions } from '../http2/keepalive.ts';
import { codeName, Http2Code } from '../http2/frames.ts';
import { header, type HeaderList } from '../http2/headers.ts';
import type { BufferPool } from '../http2/output.ts';
import { Http2Session } from '../http2/session.ts';
import type { LocalSettings } from '../http2/settings.ts';
import type { Http2Stream } from '../http2/stream.ts';
import type { CertificateSource } from '../identity/certificate.ts';
import type { SpiffeId } from '../ids.ts';
import type { CancelSignal } from '../lifecycle/cancel.ts';
import { Deadlines } from '../lifecycle/deadlines.ts';
import type { ByteStream, CloseReason, PeerCertificate, Reactor, TlsConn } from '../reactor/api.ts';
import type { EarlyData, OpenTunnel, PeerKey, Tunnel } from './api.ts';

export interface HboneDeps {
  readonly reactor: Reactor;
  readonly certificates: CertificateSource;
  readonly clock: Clock;
  /** Shared by all sessions of the thread. */
  readonly buffers?: BufferPool;
}

export interface HboneClientOptions {
  /** Milliseconds for TCP, and again for TLS; default 10,000. */
  connectTimeout?: number;
  /** Milliseconds that the peer has to answer a CONNECT; default 60,000: it may have to connect on through a tunnel of its own. */
  answerTimeout?: number;
  keepalive?: KeepaliveOptions;
  settings?: Partial<LocalSettings>;
  onChange?(): void;
  onClose?(reason: CloseReason): void;
}

/** The peer did not process the request, so another connection may be tried: GOAWAY or REFUSED_STREAM. */
export class NotProcessed extends MeshError {}

const CLIENT_HEADER_LIST = 16_384;
const ANSWER_TIMEOUT = 60_000;

export class HboneConnection {
  readonly conn: TlsConn;
  #session: Http2Session;
  #keepalive: Keepalive;
  #answerTimeout: number;
  #answers: Deadlines;

  /** Takes over `conn`, which must not have been started. */
  constructor(conn: TlsConn, deps: Omit<HboneDeps, 'certificates'>, options: HboneClientOptions = {}) {
    this.conn = conn;
    this.#answerTimeout = options.answerTimeout ?? ANSWER_TIMEOUT;
    this.#answers = new Deadlines(deps.clock, this.#answerTimeout);
    this.#session = new Http2Session(conn, {
      role: 'client',
      clock: deps.clock,
      defer: (task) => deps.reactor.defer(task),
      settings: { headerListSize: CLIENT_HEADER_LIST, ...options.settings },
      ...(deps.buffers ? { buffers: deps.buffers } : {}),
      onChange: () => options.onChange?.(),
      onClose: (reason) => {
        this.#keepalive.stop();
        options.onClose?.(reason);
      },
    });
    this.#keepalive = new Keepalive(this.#session, deps.clock, options.keepalive ?? DEFAULT_KEEPALIVE);
  }

  /** Tunnels now open. */
  get streams(): number {
    return this.#session.streams;
  }

  /** Tunnels that can be opened now. */
  get available(): number {
    return this.#session.available;
  }

  /** False once no tunnel can ever be opened on it again. */
  get usable(): boolean {
    return this.#session.usable;
  }

  /** Sends CONNECT and waits for the answer. Rejects with tunnel_refused, tunnel_unavailable, NotProcessed, or what ended the connection. */
  open(authority: string, headers: HeaderList, cancel?: CancelSignal, early?: EarlyData): Promise<Tunnel> {
    if (cancel?.reason) return Promise.reject(cancel.reason);
    return new Promise((resolve, reject) => {
      const stream = this.#session.request([[':method', 'CONNECT'], [':authority', authority], ...headers]);
      const giveUp = (error: MeshError): void => {
        settle();
        stream.reset();
        reject(error);
      };
      const settle = (): void => {
        this.#answers.delete(waiting);
        cancel?.delete(waiting);
        early?.leave();
        // The stream lives on, what waited for its answer need not.
        stream.opener = undefined;
      };
      const waiting = {
        id: nextId(),
        due: 0,
        onCancel: giveUp,
        onDeadline: () => giveUp(this.#late()),
        onAbandoned: (reason: CloseReason) => {
          settle();
          reject(this.#unanswered(reason));
        },
        onResponse: (response: HeaderList) => {
          settle();
          const refusal = this.#refusal(stream, response);
          if (refusal) reject(refusal);
          else resolve({ stream, peer: this.conn.peer, headers: response.slice(1), local: this.conn.local });
        },
      };
      stream.opener = waiting;
      this.#answers.add(waiting);
      cancel?.add(waiting);
      if (this.#session.peer.earlyData) early?.sendTo(stream);
    });
  }

  /** Takes no new tunnels and closes when the open ones have ended. */
  drain(): void {
    this.#session.drain();
  }

  /** Ends every tunnel and closes, for the reason when there is one. */
  close(reason?: MeshError): void {
    this.#session.close(reason);
  }

  #refusal(stream: Http2Stream, response: HeaderList): MeshError | undefined {
    const status = header(response, ':status');
    if (status === '200') return undefined;
    stream.reset();
    const reason = http.STATUS_CODES[status ?? ''] ?? '';
    const answer = `http status: ${status} ${reason}`.trimEnd();
    // 503: no byte reached the application, which another endpoint may do better.
    const code = status === '503' ? 'tunnel_unavailable' : 'tunnel_refused';
    return new MeshError(code, `${formatHostPort(this.conn.remote)} answered CONNECT with ${answer}`);
  }

  #late(): MeshError {
    const peer = formatHostPort(this.conn.remote);
    return new MeshError('tunnel_refused', `${peer} did not answer CONNECT within ${this.#answerTimeout} ms`);
  }

  #unanswered(reason: CloseReason): MeshError {
    const peer = formatHostPort(this.conn.remote);
    if (reason.kind === 'error') return reason.error;
    const code = reason.kind === 'reset' ? (reason.code ?? Http2Code.cancel) : Http2Code.noError;
    if (code === Http2Code.refusedStream) return new NotProcessed('reset', `${peer} did not take the tunnel`);
    return new MeshError('tunnel_refused', `${peer} reset CONNECT before an answer (${codeName(code)})`);
  }
}

/**
 * Connects to `peer.to` as `peer.source`. Rejects with connect_failed, hbone_timeout, tls_failure, identity_mismatch, no_certificate.
 */
export async function dialHbone(
  deps: HboneDeps,
  peer: PeerKey,
  socket: OpenTunnel['socket'],
  options: HboneClientOptions = {},
): Promise<HboneConnection> {
  const timeout = options.connectTimeout ?? 10_000;
  const certificate = await deps.certificates.get(peer.source);
  const conn = await deps.reactor.connect({ ...socket, to: peer.to, timeout, bytesFollow: true }).catch((error: unknown) => {
    throw connectError(MeshError.from(error, 'connect_failed'), peer.to);
  });
  const tls = await deps.reactor.tlsClient(conn, { certificate, alpn: ['h2'], verifyPeer: acceptOnly(peer.accepted), timeout });
  return new HboneConnection(withH2(tls), deps, options);
}

/** HBONE inside a tunnel: the inner half of double HBONE. One inner connection serves one client connection. */
export async function dialHboneOver(
  deps: HboneDeps,
  tunnel: Tunnel,
  peer: PeerKey,
  options: HboneClientOptions = {},
): Promise<HboneConnection> {
  const timeout = options.connectTimeout ?? 10_000;
  const certificate = await deps.certificates.get(peer.source);
  const tlsOptions = { certificate, alpn: ['h2'], verifyPeer: acceptOnly(peer.accepted), timeout };
  const stream: ByteStream = tunnel.stream;
  const tls = await deps.reactor.tlsClientOver(stream, tunnel.local, peer.to, tlsOptions);
  return new HboneConnection(withH2(tls), deps, options);
}

/** The check of TlsOptions.verifyPeer: one URI SAN of the leaf must equal one accepted identity, trust domain included. */
export function acceptOnly(accepted: readonly SpiffeId[]): (peer: PeerCertificate) => void {
  return (peer) => {
    if (peer.uris.some((uri) => accepted.some((own) => own === uri))) return;
    throw new MeshError(
      'identity_mismatch',
      `identity verification error: peer did not present the expected SAN (${accepted.join(', ')}), got ${peer.uris.join(', ') || 'none'}`,
    );
  };
}

/** A server that does not answer ALPN is taken at its word; one that chose another protocol is not. */
function withH2(conn: TlsConn): TlsConn {
  if (conn.alpn === '' || conn.alpn === 'h2') return conn;
  conn.reset();
  throw new MeshError('tls_failure', `${formatHostPort(conn.remote)} chose the protocol ${conn.alpn}, HBONE needs h2`);
}

function connectError(error: MeshError, to: HostPort): MeshError {
  if (error.code !== 'connect_timeout') return error;
  const hint = `connection timed out, maybe a NetworkPolicy is blocking HBONE port ${to.port}`;
  return new MeshError('hbone_timeout', `${hint}: ${error.message}`, { cause: error });
}
