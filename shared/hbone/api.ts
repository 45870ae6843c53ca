// HBONE as its users see it: open a CONNECT tunnel to a peer, or serve the tunnels of an accepted connection.
// client.ts, pool.ts and server.ts implement this over shared/http2 and a Reactor.
import type { HostPort } from '../address.ts';
import type { MeshError } from '../errors.ts';
import type { HeaderList } from '../http2/headers.ts';
import type { SpiffeId } from '../ids.ts';
import type { CancelSignal } from '../lifecycle/cancel.ts';
import type { ByteStream, PeerCertificate, SocketOptions, TlsConn } from '../reactor/api.ts';

export type { HeaderList } from '../http2/headers.ts';

/** What makes two tunnels able to share a connection. */
export interface PeerKey {
  /** Whose certificate this side presents. */
  source: SpiffeId;
  /** The server must present one of these (full SPIFFE IDs). */
  accepted: readonly SpiffeId[];
  to: HostPort;
  /** The client's own address: connections are not shared between pods. */
  sourceIp: string;
}

export interface OpenTunnel {
  peer: PeerKey;
  /** `host:port`, IPv6 in brackets. */
  authority: string;
  /** Extra request headers: baggage, forwarded, traceparent. */
  headers: HeaderList;
  /** Socket options of a new connection. */
  socket: SocketOptions;
  /** Gives up, with its reason. */
  cancel?: CancelSignal;
  /** What may go through the tunnel before its answer, to a peer that takes it so. A refusal by status means that nobody got it. */
  early?: EarlyData;
}

export interface EarlyData {
  /** CONNECT was sent: the first bytes follow it, the same ones on each connection that is tried, now or when they come. */
  sendTo(stream: ByteStream): void;
  /** The stream was answered, or is over: it gets none from here any more. */
  leave(): void;
  /** HTTP/2 says that nobody got what was sent: another connection has had none of it. */
  notProcessed(): void;
}

/** The tunnel that goes on from the end of another. */
export interface InnerTunnel {
  /** Who answers it must present one of these. */
  accepted: readonly SpiffeId[];
  headers: HeaderList;
}

/** An open tunnel: the peer answered 200. */
export interface Tunnel {
  readonly stream: ByteStream;
  readonly peer: PeerCertificate;
  /** Response headers without `:status`. */
  readonly headers: HeaderList;
  /** The local address of the connection that carries it. */
  readonly local: HostPort;
}

export interface HbonePool {
  /** Rejects with a MeshError: connect_failed, hbone_timeout, tls_failure, identity_mismatch, no_certificate, tunnel_refused, tunnel_unavailable. */
  open(request: OpenTunnel): Promise<Tunnel>;
  /** Connections now open, for the admin pages. */
  readonly size: number;
  /**
   * Double HBONE: `outer` is opened, and in it a connection of its own to who is beyond, with one tunnel for the same authority. The
   * connection ends with its tunnel. Rejects as open() does.
   */
  openThrough(outer: OpenTunnel, inner: InnerTunnel): Promise<Tunnel>;
  /** Asks for every open connection whether its peer may stay; one that may not ends at once, with all of its tunnels, for that reason. */
  review(refusal: (peer: PeerCertificate) => MeshError | undefined): void;
  /** Lets streams finish (GOAWAY), takes no new ones. */
  drain(): void;
  close(): void;
}

/** A CONNECT request that waits for its answer. */
export interface IncomingTunnel {
  readonly method: string;
  readonly authority: string;
  readonly headers: HeaderList;
  /** Bytes have come along with the request, and wait for its answer. */
  readonly bytesWait: boolean;
  /** These bytes, after the answer and before the stream was started: the stream then begins behind them. */
  takeBytes(): Uint8Array | undefined;
  /** Answers 200 with the headers and hands over the stream. */
  accept(headers: HeaderList): ByteStream;
  /** Answers the status with END_STREAM; resets a tunnel that was accepted. */
  refuse(status: number, headers?: HeaderList): void;
  /** Ends when the peer gives up (RST_STREAM, connection lost) before an answer. */
  readonly cancel: CancelSignal;
}

export interface HboneServerSession {
  readonly conn: TlsConn;
  /** Sends GOAWAY; resolves when the last stream has ended. */
  drain(): Promise<void>;
  /** Ends every stream at once, with `reason` when there is one. */
  close(reason?: MeshError): void;
}
