// Where an application meant to go before a redirect rule sent its connection here: conntrack remembers it (SO_ORIGINAL_DST).
import type { HostPort } from '../address.ts';
import { decodeSockaddr, i32, IP, IPV6, SOCKADDR_SIZE, SOL } from './layout.ts';
import { libc } from './syscalls.ts';

/** Undefined when conntrack does not know the connection (no redirect). IPv4 is asked first: it also serves v4-mapped sockets. */
export function originalDestination(fd: number): HostPort | undefined {
  return read(fd, SOL.IP, IP.ORIGINAL_DST) ?? read(fd, SOL.IPV6, IPV6.ORIGINAL_DST);
}

function read(fd: number, level: number, name: number): HostPort | undefined {
  const bytes = Buffer.alloc(SOCKADDR_SIZE);
  return libc().getsockopt(fd, level, name, bytes, i32(bytes.length)) < 0 ? undefined : decodeSockaddr(bytes);
}
