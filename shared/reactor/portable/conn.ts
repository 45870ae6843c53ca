// TCP and TLS connections of the portable backend.
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { canonicalIp, type HostPort } from '../../address.ts';
import { originalDestination } from '../../os/original-dst.ts';
import { resetOnClose } from '../../os/socket-factory.ts';
import type { Secured } from '../../tls/handshake.ts';
import type { Conn, PeerCertificate, TlsConn } from '../api.ts';
import { SocketStream } from './stream.ts';

export class PortableConn extends SocketStream implements Conn {
  readonly local: HostPort;
  readonly remote: HostPort;
  readonly #socket: Socket;

  constructor(socket: Socket, local: HostPort, remote: HostPort) {
    super(socket, remote, () => abortSocket(socket, socket));
    this.#socket = socket;
    this.local = local;
    this.remote = remote;
  }

  /** Undefined when the peer is already gone. */
  static of(socket: Socket): PortableConn | undefined {
    const local = hostPort(socket.localAddress, socket.localPort);
    const remote = hostPort(socket.remoteAddress, socket.remotePort);
    return local && remote ? new PortableConn(socket, local, remote) : undefined;
  }

  originalDestination(): HostPort {
    const fd = descriptor(this.#socket);
    return (fd === undefined ? undefined : originalDestination(fd)) ?? this.local;
  }

  /** The socket under it, for a TLS handshake to take over. */
  get socket(): Socket {
    return this.#socket;
  }
}

export class PortableTlsConn extends SocketStream implements TlsConn {
  readonly local: HostPort;
  readonly remote: HostPort;
  readonly peer: PeerCertificate;
  readonly alpn: string;
  readonly #original: () => HostPort;

  /** `transport` is what the TLS socket runs over: a TCP socket, or a Duplex whose destruction resets the stream under it. */
  constructor({ socket, peer }: Secured, transport: Duplex, local: HostPort, remote: HostPort, original: () => HostPort) {
    super(socket, remote, () => abortSocket(socket, transport));
    this.local = local;
    this.remote = remote;
    this.peer = peer;
    this.alpn = typeof socket.alpnProtocol === 'string' ? socket.alpnProtocol : '';
    this.#original = original;
  }

  originalDestination(): HostPort {
    return this.#original();
  }
}

/** Destroys both so that the peer sees a reset. */
function abortSocket(socket: Socket | TLSSocket, transport: Duplex): void {
  const fd = descriptor(transport);
  if (fd === undefined) transport.destroy(new Error('reset by this side'));
  else resetOnClose(fd);
  socket.destroy();
  transport.destroy();
}

/** Node offers no public way to the descriptor of a socket. */
export function descriptor(socket: Duplex): number | undefined {
  const handle = (socket as { _handle?: { fd?: number } | null })._handle;
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}

function hostPort(address: string | undefined, port: number | undefined): HostPort | undefined {
  const ip = address === undefined ? undefined : canonicalIp(address);
  return ip === undefined || port === undefined ? undefined : { ip, port };
}
