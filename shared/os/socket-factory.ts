// Sockets with what Node's own API cannot say: network namespace, mark, transparent binding, port sharing. Each function returns a
// non-blocking, close-on-exec descriptor that belongs to the caller.
import { formatHostPort, type HostPort } from '../address.ts';
import { MeshError } from '../errors.ts';
import type { ConnectOptions, Keepalive, ListeningSocket, ListenOptions, SocketOptions } from '../reactor/api.ts';
import { errorCode } from './errno.ts';
import {
  AF,
  decodeSockaddr,
  encodeSockaddr,
  ERRNO,
  F_DUPFD_CLOEXEC,
  familyOf,
  IP,
  IPV6,
  LINGER,
  SHUT_RD,
  SO,
  SOCK,
  SOCKADDR_SIZE,
  SOL,
  TCP,
} from './layout.ts';
import { inNetns } from './netns.ts';
import { check, errno, libc } from './syscalls.ts';

const DEFAULT_BACKLOG = 1024;
/** The first port after those that Linux gives to clients (net.ipv4.ip_local_port_range, default 32768-60999). */
const BEYOND_EPHEMERAL = 61_000;
/** Places for what goes in and out of one system call: nothing else runs between filling and reading them, and arrays cost more than most calls. */
const VALUE = Buffer.alloc(4);
const LENGTH = Buffer.alloc(4);
const ADDRESS = Buffer.alloc(SOCKADDR_SIZE);
/** On, for no seconds. */
const LINGER_ZERO = Buffer.alloc(LINGER.size);
LINGER_ZERO.writeInt32LE(1, LINGER.on);

/** TCP_CA_NAME_MAX. */
const CONGESTION_NAME = 16;
const CUBIC = Buffer.from('cubic');

export interface BoundSocket {
  readonly fd: number;
  readonly address: HostPort;
}

export type { ListeningSocket } from '../reactor/api.ts';

/** A bound and listening TCP socket. Accepted sockets inherit its mark, keep-alive and no-delay settings. */
export function listenTcp(options: ListenOptions): ListeningSocket {
  if (options.socket) return options.socket;
  const what = `listen on ${formatHostPort(options.address)}${place(options)}`;
  const open = (address: HostPort): ListeningSocket => {
    const fd = createSocket(SOCK.STREAM, familyOf(address.ip), options, what);
    return orClose(fd, () => {
      if (options.reusePort) setOption(fd, SOL.SOCKET, SO.REUSEPORT, 1, what);
      // A restart must not wait for old connections in TIME_WAIT.
      setOption(fd, SOL.SOCKET, SO.REUSEADDR, 1, what);
      const transparent = makeTransparent(fd, familyOf(address.ip), options.transparent ?? 'no', what);
      check(libc().bind(fd, ...sockaddr(address)), what, 'bind');
      check(libc().listen(fd, options.backlog ?? DEFAULT_BACKLOG), what, 'listen');
      return { fd, transparent, address: localAddress(fd) ?? address };
    });
  };
  return openWildcard(options.address, open);
}

/** A second descriptor of the same socket, for another thread to own. */
export function duplicate(fd: number): number {
  return check(libc().fcntl(fd, F_DUPFD_CLOEXEC, 0), `duplicate descriptor ${fd}`, 'fcntl');
}

/** Ends listening for every descriptor of the socket: who waits in its queue is refused, who comes next too. Closes this one. */
export function stopListening(fd: number): void {
  libc().shutdown(fd, SHUT_RD);
  libc().close(fd);
}

/** Closes the descriptors that a thread left behind, noted by number; the peers of its sockets see a reset. */
export function closeNoted(ledger: Uint8Array): void {
  for (let fd = ledger.indexOf(1); fd >= 0; fd = ledger.indexOf(1, fd + 1)) {
    resetOnClose(fd);
    libc().close(fd);
  }
  ledger.fill(0);
}

export interface UdpOptions extends Pick<ListenOptions, 'address' | 'netns' | 'mark' | 'reusePort'> {
  /** Bytes of the queue of what was not read yet, beyond the machine's limit where we may (CAP_NET_ADMIN); default the kernel's. */
  receiveBuffer?: number;
}

/** A bound UDP socket, for `dgram.Socket.bind({ fd })`. */
export function bindUdp(options: UdpOptions): BoundSocket {
  const what = `bind UDP ${formatHostPort(options.address)}${place(options)}`;
  return openWildcard(options.address, (address) => {
    const fd = createSocket(SOCK.DGRAM, familyOf(address.ip), options, what);
    return orClose(fd, () => {
      if (options.reusePort) setOption(fd, SOL.SOCKET, SO.REUSEPORT, 1, what);
      if (options.receiveBuffer !== undefined) setReceiveBuffer(fd, options.receiveBuffer, what);
      check(libc().bind(fd, ...sockaddr(address)), what, 'bind');
      return { fd, address: localAddress(fd) ?? address };
    });
  });
}

/**
 * An unconnected TCP socket of the family of `to`, bound to the address `from` when one is given. `attempt` counts from 0: a later one
 * takes another source port.
 */
export function clientTcp(options: ConnectOptions, attempt = 0): number {
  const { to, from } = options;
  const what = `connect to ${formatHostPort(to)}${from ? ` from ${from.ip}` : ''}${place(options)}`;
  const family = familyOf(to.ip);
  const fd = createSocket(SOCK.STREAM, family, options, what);
  return orClose(fd, () => {
    // Its handshake's ACK waits for the first bytes, 200 ms at most; from then on the kernel acknowledges as it always does.
    if (options.bytesFollow) setOption(fd, SOL.TCP, TCP.QUICKACK, 0, what);
    if (!from) return fd;
    try {
      makeTransparent(fd, family, 'require', what);
      if (bindBeyondEphemeral(fd, from.ip, (options.beyondEphemeral ?? 0) - attempt, what)) return fd;
      setOption(fd, SOL.IP, IP.BIND_ADDRESS_NO_PORT, 1, what);
      check(libc().bind(fd, ...sockaddr(from)), what, 'bind');
    } catch (thrown) {
      if (!options.onUnbound) throw thrown;
      options.onUnbound(MeshError.from(thrown));
    }
    return fd;
  });
}

/** Whether another attempt may find a source port that is free towards this destination. */
export function mayHaveAnotherPort(options: ConnectOptions, attempt: number): boolean {
  return options.from !== undefined && attempt < (options.beyondEphemeral ?? 0);
}

/** Binds to a port above the ephemeral ones; false when none was found, after which the kernel is to choose. */
function bindBeyondEphemeral(fd: number, ip: string, attempts: number, what: string): boolean {
  if (attempts <= 0) return false;
  // The port may be shared by connections to different places; connect(2) tells when one to the same place has it.
  setOption(fd, SOL.SOCKET, SO.REUSEADDR, 1, what);
  for (let left = attempts; left > 0; left--) {
    const port = BEYOND_EPHEMERAL + Math.floor(Math.random() * (65_536 - BEYOND_EPHEMERAL));
    if (libc().bind(fd, ...sockaddr({ ip, port })) === 0) return true;
    if (errno() !== ERRNO.EADDRINUSE) check(-1, what, 'bind');
  }
  return false;
}

/**
 * Starts connecting: 0 when it is done at once, else errno (EINPROGRESS when it will be told by writability). To somebody on this machine the
 * handshake is over before connect(2) returns, which says so when it is asked again.
 */
export function startConnect(fd: number, to: HostPort): number {
  const [address, length] = sockaddr(to);
  for (let asked = 1; ; asked++) {
    if (libc().connect(fd, address, length) === 0) return 0;
    const code = errno();
    if (code === ERRNO.EALREADY) return ERRNO.EINPROGRESS;
    if (code !== ERRNO.EINPROGRESS || asked === 2) return code;
  }
}

export interface AcceptedSocket {
  readonly fd: number;
  readonly remote: HostPort;
}

/** The next connection in the queue; undefined with errno when there is none, or none can be had. */
export function acceptTcp(listener: number): AcceptedSocket | undefined {
  LENGTH.writeInt32LE(SOCKADDR_SIZE);
  const fd = libc().accept4(listener, ADDRESS, LENGTH, SOCK.NONBLOCK | SOCK.CLOEXEC);
  return fd < 0 ? undefined : { fd, remote: decodeSockaddr(ADDRESS) ?? { ip: '0.0.0.0', port: 0 } };
}

/** The local address of a socket; undefined when it has none. */
export function localAddress(fd: number): HostPort | undefined {
  return readAddress((bytes, length) => libc().getsockname(fd, bytes, length));
}

/** The peer's address; undefined when the socket is not connected. */
export function remoteAddress(fd: number): HostPort | undefined {
  return readAddress((bytes, length) => libc().getpeername(fd, bytes, length));
}

/** The error that a socket has pending (SO_ERROR), as errno; 0 when there is none. Reading it clears it. */
export function socketError(fd: number): number {
  LENGTH.writeInt32LE(VALUE.length);
  libc().getsockopt(fd, SOL.SOCKET, SO.ERROR, VALUE, LENGTH);
  return VALUE.readInt32LE();
}

/** Makes the coming close(2) send RST and drop what is unsent. */
export function resetOnClose(fd: number): void {
  libc().setsockopt(fd, SOL.SOCKET, SO.LINGER, LINGER_ZERO, LINGER_ZERO.length);
}

function createSocket(type: number, family: number, options: SocketOptions, what: string): number {
  const fd = inNetns(options.netns, () => check(libc().socket(family, type | SOCK.NONBLOCK | SOCK.CLOEXEC, 0), what, 'socket'));
  return orClose(fd, () => {
    if (family === AF.INET6) setOption(fd, SOL.IPV6, IPV6.V6ONLY, 0, what);
    if (options.mark !== undefined) setOption(fd, SOL.SOCKET, SO.MARK, options.mark, what);
    if (type === SOCK.STREAM) setOption(fd, SOL.TCP, TCP.NODELAY, 1, what);
    if (options.userTimeout !== undefined) setOption(fd, SOL.TCP, TCP.USER_TIMEOUT, options.userTimeout, what);
    if (options.keepalive) setKeepalive(fd, options.keepalive, what);
    if (options.congestion !== undefined) setCongestion(fd, options.congestion, what);
    return fd;
  });
}

function setKeepalive(fd: number, { time, interval, retries }: Keepalive, what: string): void {
  const seconds = (ms: number): number => Math.max(1, Math.round(ms / 1000));
  setOption(fd, SOL.SOCKET, SO.KEEPALIVE, 1, what);
  setOption(fd, SOL.TCP, TCP.KEEPIDLE, seconds(time), what);
  setOption(fd, SOL.TCP, TCP.KEEPINTVL, seconds(interval), what);
  setOption(fd, SOL.TCP, TCP.KEEPCNT, retries, what);
}

/** With `auto`, a kernel that has no cubic goes on with what it has. */
function setCongestion(fd: number, wanted: string, what: string): void {
  if (wanted !== 'auto') {
    const name = Buffer.from(wanted);
    check(
      libc().setsockopt(fd, SOL.TCP, TCP.CONGESTION, name, name.length),
      `${what}: congestion control ${wanted}`,
      'setsockopt',
    );
  } else if (congestionOf(fd).startsWith('bbr')) libc().setsockopt(fd, SOL.TCP, TCP.CONGESTION, CUBIC, CUBIC.length);
}

/** The name of a socket's congestion control; empty when the kernel does not say. */
export function congestionOf(fd: number): string {
  const name = Buffer.alloc(CONGESTION_NAME);
  LENGTH.writeInt32LE(name.length);
  if (libc().getsockopt(fd, SOL.TCP, TCP.CONGESTION, name, LENGTH) < 0) return '';
  return name.toString('latin1').split('\0', 1)[0] ?? '';
}

/** Beyond what the system lets anybody have, where the process may; elsewhere as much as that. */
function setReceiveBuffer(fd: number, bytes: number, what: string): void {
  VALUE.writeInt32LE(bytes);
  if (libc().setsockopt(fd, SOL.SOCKET, SO.RCVBUFFORCE, VALUE, VALUE.length) === 0) return;
  setOption(fd, SOL.SOCKET, SO.RCVBUF, bytes, what);
}

/** A dual-stack socket needs it on the IPv6 level alone: the kernel keeps one flag for both. */
function makeTransparent(fd: number, family: number, mode: 'no' | 'try' | 'require', what: string): boolean {
  if (mode === 'no') return false;
  const [level, name] = family === AF.INET6 ? ([SOL.IPV6, IPV6.TRANSPARENT] as const) : ([SOL.IP, IP.TRANSPARENT] as const);
  VALUE.writeInt32LE(1);
  if (mode === 'try') return libc().setsockopt(fd, level, name, VALUE, VALUE.length) === 0;
  setOption(fd, level, name, 1, what);
  return true;
}

/** Where the kernel has no IPv6, the wildcard `::` means `0.0.0.0`. */
function openWildcard<T>(address: HostPort, open: (address: HostPort) => T): T {
  try {
    return open(address);
  } catch (thrown) {
    if (address.ip !== '::' || !['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes(errorCode(thrown))) throw thrown;
    return open({ ip: '0.0.0.0', port: address.port });
  }
}

function place(options: SocketOptions): string {
  return options.netns === undefined ? '' : ` in the network namespace of descriptor ${options.netns}`;
}

function sockaddr(address: HostPort): [Uint8Array, number] {
  const bytes = encodeSockaddr(address);
  return [bytes, bytes.length];
}

function readAddress(call: (bytes: Uint8Array, length: Uint8Array) => number): HostPort | undefined {
  LENGTH.writeInt32LE(SOCKADDR_SIZE);
  return call(ADDRESS, LENGTH) < 0 ? undefined : decodeSockaddr(ADDRESS);
}

function setOption(fd: number, level: number, name: number, value: number, what: string): void {
  VALUE.writeInt32LE(value);
  check(libc().setsockopt(fd, level, name, VALUE, VALUE.length), what, 'setsockopt');
}

function orClose<T>(fd: number, use: () => T): T {
  try {
    return use();
  } catch (thrown) {
    libc().close(fd);
    throw thrown;
  }
}
