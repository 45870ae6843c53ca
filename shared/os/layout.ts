// Numbers and struct layouts of the Linux ABI, 64-bit little-endian: x86-64 and arm64 agree on all of them but epoll_event.
import { ipFromBytes, ipToBytes, type HostPort } from '../address.ts';
import { MeshError } from '../errors.ts';

export const AF = { UNIX: 1, INET: 2, INET6: 10 } as const;
export const SOCK = { STREAM: 1, DGRAM: 2, SEQPACKET: 5, NONBLOCK: 0x800, CLOEXEC: 0x80000 } as const;
export const SOL = { SOCKET: 1, IP: 0, TCP: 6, IPV6: 41 } as const;
export const SO = {
  REUSEADDR: 2,
  ERROR: 4,
  RCVBUF: 8,
  KEEPALIVE: 9,
  LINGER: 13,
  REUSEPORT: 15,
  PEERCRED: 17,
  RCVBUFFORCE: 33,
  MARK: 36,
  DOMAIN: 39,
} as const;
export const IP = { TRANSPARENT: 19, BIND_ADDRESS_NO_PORT: 24, ORIGINAL_DST: 80 } as const;
export const IPV6 = { V6ONLY: 26, TRANSPARENT: 75, ORIGINAL_DST: 80 } as const;
export const TCP = {
  NODELAY: 1,
  KEEPIDLE: 4,
  KEEPINTVL: 5,
  KEEPCNT: 6,
  INFO: 11,
  QUICKACK: 12,
  CONGESTION: 13,
  USER_TIMEOUT: 18,
} as const;
/** Where struct tcp_info has what is read of it; all numbers little-endian, the same on both architectures. */
export const TCP_INFO = {
  size: 168,
  state: 0,
  segmentSize: 16,
  unacknowledged: 24,
  rtt: 68,
  rttVariance: 72,
  congestionWindow: 80,
  retransmits: 100,
  bytesAcknowledged: 120,
  bytesReceived: 128,
  segmentsReceived: 140,
  unsent: 144,
  rttMin: 148,
} as const;
export const MSG = {
  OOB: 0x1,
  CTRUNC: 0x8,
  TRUNC: 0x20,
  DONTWAIT: 0x40,
  NOSIGNAL: 0x4000,
  MORE: 0x8000,
  CMSG_CLOEXEC: 0x40000000,
} as const;
export const EPOLL = {
  IN: 0x1,
  PRI: 0x2,
  OUT: 0x4,
  ERR: 0x8,
  HUP: 0x10,
  RDHUP: 0x2000,
  CTL_ADD: 1,
  CTL_DEL: 2,
  CTL_MOD: 3,
  CLOEXEC: 0x80000,
} as const;
/** struct epoll_event: packed on x86-64 only, where C code of 32 bits had it so; elsewhere its 64 bits of data stand where they are aligned. */
export function epollEventOf(arch: NodeJS.Architecture): { readonly size: number; readonly data: number } {
  return arch === 'x64' ? { size: 12, data: 4 } : { size: 16, data: 8 };
}
export const EPOLL_EVENT = epollEventOf(process.arch);
/** struct iovec: a pointer and a size_t. */
export const IOVEC = { size: 16, base: 0, length: 8 } as const;
/** struct msghdr: pointers and sizes of 8 octets; the length of the name and the flags have 4 and padding. */
export const MSGHDR = { size: 56, iovecs: 16, iovecCount: 24, control: 32, controlLength: 40, flags: 48 } as const;
/** struct cmsghdr, and its data behind it. Messages begin at multiples of 8. */
export const CMSG = { length: 0, level: 8, type: 12, data: 16, align: 8 } as const;
/** struct ucred, which SO_PEERCRED fills in. */
export const UCRED = { size: 12, pid: 0, uid: 4, gid: 8 } as const;
/** struct linger. */
export const LINGER = { size: 8, on: 0, seconds: 4 } as const;
/** struct rlimit: two rlim_t. */
export const RLIMIT = { size: 16, soft: 0, hard: 8 } as const;
export const ERRNO = {
  EINTR: 4,
  EAGAIN: 11,
  ENFILE: 23,
  EMFILE: 24,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  EALREADY: 114,
  EINPROGRESS: 115,
  EPIPE: 32,
} as const;
export const CLONE_NEWNET = 0x40000000;
export const SCM_RIGHTS = 1;
export const RLIMIT_NOFILE = 7;
export const MADV_DONTNEED = 4;
export const SHUT_RD = 0;
export const SHUT_WR = 1;

export const F_DUPFD_CLOEXEC = 1030;
export const SHUT_RDWR = 2;

/** Size of the largest sockaddr read back from the kernel (sockaddr_in6). */
export const SOCKADDR_SIZE = 28;
/** Longest path of a Unix socket: sun_path holds 108 bytes with the final zero. */
const UNIX_PATH_MAX = 107;

export function i32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

export function familyOf(ip: string): number {
  return ip.includes(':') ? AF.INET6 : AF.INET;
}

/** sockaddr_in or sockaddr_in6 of an address. */
export function encodeSockaddr(address: HostPort): Uint8Array {
  const ip = ipToBytes(address.ip);
  if (!ip) throw new MeshError('invalid_config', `"${address.ip}" is not an IP address`);
  const bytes = Buffer.alloc(ip.length === 4 ? 16 : SOCKADDR_SIZE);
  bytes.writeUInt16LE(ip.length === 4 ? AF.INET : AF.INET6, 0);
  bytes.writeUInt16BE(address.port, 2);
  bytes.set(ip, ip.length === 4 ? 4 : 8);
  return bytes;
}

/** Canonical address (v4-mapped becomes IPv4); undefined for any other family. */
export function decodeSockaddr(bytes: Buffer): HostPort | undefined {
  const family = bytes.readUInt16LE(0);
  const port = bytes.readUInt16BE(2);
  // Nearly all addresses are of these two forms, and each connection decodes several.
  const dotted = family === AF.INET ? 4 : family === AF.INET6 && isMapped(bytes) ? 20 : 0;
  if (dotted > 0) return { ip: dottedText(bytes.readUInt32BE(dotted)), port };
  const ip = family === AF.INET6 ? ipFromBytes(bytes.subarray(8, 24)) : undefined;
  return ip === undefined ? undefined : { ip, port };
}

/** Texts of IPv4 addresses met of late: those of a node come again and again, and each connection that is open keeps some. */
const TEXTS = new Map<number, string>();
const MOST_TEXTS = 4096;

function dottedText(address: number): string {
  let text = TEXTS.get(address);
  if (text !== undefined) return text;
  if (TEXTS.size === MOST_TEXTS) TEXTS.clear();
  text = `${address >>> 24}.${(address >>> 16) & 0xff}.${(address >>> 8) & 0xff}.${address & 0xff}`;
  TEXTS.set(address, text);
  return text;
}

/** Whether a sockaddr_in6 holds an IPv4 address (::ffff:a.b.c.d). */
function isMapped(bytes: Buffer): boolean {
  return bytes.readUInt32LE(8) === 0 && bytes.readUInt32LE(12) === 0 && bytes.readUInt32BE(16) === 0xffff;
}

/** sockaddr_un of a path. */
export function encodeUnixSockaddr(path: string): Uint8Array {
  const name = Buffer.from(path);
  if (name.length > UNIX_PATH_MAX)
    throw new MeshError(
      'invalid_config',
      `${path}: a Unix socket's path may have ${UNIX_PATH_MAX} bytes, this one has ${name.length}`,
    );
  const bytes = Buffer.alloc(2 + name.length + 1);
  bytes.writeUInt16LE(AF.UNIX, 0);
  bytes.set(name, 2);
  return bytes;
}
