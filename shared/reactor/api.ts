// The seam between the data plane and the kernel: listeners, connections and byte streams. Two backends implement it: `portable`
// over node:net and node:tls, and `native` over epoll and OpenSSL (design D2). Everything above sees only this file.
//
// Rules that both backends keep, and test/shared/reactor/ checks on both:
// - Callbacks never run inside the call that caused them: a handler sees events only from the loop's own turn.
// - After onClose nothing else is called. onClose comes exactly once, also after reset().
// - A chunk passed to onData is valid during the call only; keep a copy (`Uint8Array.from`: `slice` of a Buffer is none), or give a `buffer()`.
// - write() takes the bytes (the caller may reuse its buffer at once) and returns false when the stream wants a pause; onDrain follows.
import type { HostPort } from '../address.ts';
import type { MeshError } from '../errors.ts';
import type { WorkloadCertificate } from '../identity/certificate.ts';
import type { CancelSignal } from '../lifecycle/cancel.ts';

export type CloseReason =
  /** Both directions ended in order. */
  | { readonly kind: 'ended' }
  /** The peer (`remote: true`) or this side tore the stream down: RST, or RST_STREAM with `code`. */
  | { readonly kind: 'reset'; readonly remote: boolean; readonly code?: number }
  | { readonly kind: 'error'; readonly error: MeshError };

export interface StreamHandler {
  /** Where the next read should go: then the chunk of the next onData is a prefix of the returned array. Undefined: anywhere. */
  buffer?(): Uint8Array | undefined;
  /** `last`: the peer's end has come with it, so that onEnd() follows at once unless the stream is paused. */
  onData(chunk: Uint8Array, last?: boolean): void;
  /** The peer will send nothing more (FIN, END_STREAM); this side may go on writing. */
  onEnd(): void;
  /** write() may be called again. */
  onDrain(): void;
  onClose(reason: CloseReason): void;
}

/** A flow of bytes both ways with half-close and reset: a TCP connection, a TLS connection, or a CONNECT stream. */
export interface ByteStream {
  /** Must be called once, before the first event; reading starts with it. */
  start(handler: StreamHandler): void;
  /** False: hold back until onDrain. The bytes are taken either way. `last`: end() follows in the same turn, and may go out with them. */
  write(chunk: Uint8Array, last?: boolean): boolean;
  /** Ends the sending direction after what was written. */
  end(): void;
  /** Ends both directions at once and tells the peer so (RST; RST_STREAM with `code`, default CANCEL). */
  reset(code?: number): void;
  /** Stops reading until resume(); the peer is held back by flow control. */
  pause(): void;
  resume(): void;
  /** Bytes accepted by write() that have not left this process yet. */
  readonly buffered: number;
  /** The same, with those that the peer has not acknowledged yet; undefined where nobody knows. Costs a system call. */
  readonly unacknowledged?: number | undefined;
}

export interface Conn extends ByteStream {
  /** Canonical addresses; v4-mapped ones are shown as IPv4. */
  readonly local: HostPort;
  readonly remote: HostPort;
  /** Where the application meant to go before a redirect rule changed it (SO_ORIGINAL_DST), else the local address. */
  originalDestination(): HostPort;
  /**
   * Of a connection that was not started: what it has sent by now, `limit` bytes at most, in an array of its own; start() tells of what comes
   * behind that. Undefined when there is nothing yet. Not every backend can.
   */
  readEarly?(limit: number): Uint8Array | undefined;
  /** Calls back once when readEarly() may find something; nobody is called from start() on, or when there is no listener any more. */
  whenReadable?(listener: ReadableListener | undefined): void;
}

export interface ReadableListener {
  onReadable(): void;
}

export interface TlsConn extends Conn {
  readonly peer: PeerCertificate;
  /** The agreed ALPN protocol; '' when none. */
  readonly alpn: string;
}

export interface PeerCertificate {
  /** URI SANs of the leaf, in order. */
  readonly uris: readonly string[];
  /** Upper-case hexadecimal. */
  readonly serial: string;
  /** The verified chain (DER, the leaf first), known where revocation lists are followed: to be looked up again when they change. */
  readonly chain?: readonly Uint8Array[];
}

/** Which network namespace a socket belongs to: an open descriptor of it, or undefined for the process's own. */
export type NetnsFd = number | undefined;

export interface SocketOptions {
  netns?: NetnsFd;
  /** SO_MARK. */
  mark?: number;
  keepalive?: Keepalive;
  /** TCP_USER_TIMEOUT, ms: how long what was sent may stay unacknowledged before the connection is given up; default the kernel's. */
  userTimeout?: number;
  /**
   * TCP congestion control, by the kernel's name. `auto`: cubic where the kernel would take BBR, which paces what is sent by a timer for each
   * socket (decision 0025). Default: as the kernel has it.
   */
  congestion?: string;
}

/** Milliseconds; the kernel counts in seconds. */
export interface Keepalive {
  time: number;
  interval: number;
  retries: number;
}

/** A descriptor that is bound and listens. */
export interface ListeningSocket {
  readonly fd: number;
  readonly address: HostPort;
  readonly transparent: boolean;
}

export interface ListenOptions extends SocketOptions {
  /** `::` listens on both families where IPv6 exists. */
  address: HostPort;
  /** Bound by another thread or process: taken over as it is, and closed with the listener. */
  socket?: ListeningSocket;
  /** IP_TRANSPARENT: `try` notes the outcome in Listener.transparent. */
  transparent?: 'no' | 'try' | 'require';
  /** SO_REUSEPORT, so that an old and a new ztunnel can overlap. */
  reusePort?: boolean;
  backlog?: number;
}

export interface Listener {
  readonly address: HostPort;
  readonly transparent: boolean;
  /** Stops accepting; accepted connections live on. Safe to call twice. */
  close(): void;
}

export interface ConnectOptions extends SocketOptions {
  to: HostPort;
  /** Connect from this (possibly foreign) source address: IP_TRANSPARENT + IP_BIND_ADDRESS_NO_PORT, port 0. */
  from?: HostPort;
  /** Told when the address of `from` cannot be had, and the connection is made from the machine's own. Default: it then fails. */
  onUnbound?: ((error: MeshError) => void) | undefined;
  /** Takes the port of `from` from above those that the kernel gives to clients (docs/decisions/0012), when one of so many at random is free. */
  beyondEphemeral?: number;
  /** The first write() follows at once, so that the end of the handshake may go out with it; the peer knows of no connection before that. */
  bytesFollow?: boolean;
  /** Milliseconds until `connect_timeout`; default 10,000. */
  timeout?: number;
  /** Gives up, with its reason. */
  cancel?: CancelSignal;
}

export interface TlsOptions {
  /** Own certificate, key and trusted roots. Contexts are cached per certificate object. */
  certificate: WorkloadCertificate;
  alpn: readonly string[];
  /** Called with the verified chain's leaf; a thrown MeshError ends the handshake with that reason. */
  verifyPeer(peer: PeerCertificate): void;
  /** Milliseconds for the whole handshake; default 10,000. */
  timeout?: number;
}

/** A connection that was let go of, for another thread or process to go on with. The holder owns the descriptor. */
export interface DetachedConn {
  readonly fd: number;
  readonly remote: HostPort;
  /** What write() took and the kernel did not yet. */
  readonly unsent: Uint8Array;
}

/** A stream that can be let go of; after that nothing is called. */
export interface Detachable {
  /** It has closed, or is known to be broken, be it that onClose is still to come: there is nothing to let go of. */
  readonly over: boolean;
  detach(): DetachedConn;
}

/** One event loop's worth of sockets. */
export interface Reactor {
  readonly backend: 'native' | 'portable';
  /** Binds and listens before it resolves; a taken port rejects with what holds it (address, namespace). */
  listen(options: ListenOptions, onConn: (conn: Conn) => void): Promise<Listener>;
  connect(options: ConnectOptions): Promise<Conn>;
  /** The same, and at once when the peer has answered at once, as one on this machine does. Rejects; it never throws. */
  dial(options: ConnectOptions): Conn | Promise<Conn>;
  /** Goes on with a connection that was let go of, what it had not sent first. Only where streams can be let go of. */
  adopt?(conn: DetachedConn): Conn;
  /** Client handshake over a connected Conn that was not started. */
  tlsClient(conn: Conn, options: TlsOptions): Promise<TlsConn>;
  /** Server handshake; a client certificate is required. */
  tlsServer(conn: Conn, options: TlsOptions): Promise<TlsConn>;
  /** TLS over any stream, for the inner connection of double HBONE. */
  tlsClientOver(stream: ByteStream, local: HostPort, remote: HostPort, options: TlsOptions): Promise<TlsConn>;
  tlsServerOver(stream: ByteStream, local: HostPort, remote: HostPort, options: TlsOptions): Promise<TlsConn>;
  /** Runs a task once, at the end of the current turn, behind all of its events: codecs gather output and send it in one write. */
  defer(task: () => void): void;
  /** Closes every listener and connection. */
  close(): void;
}
