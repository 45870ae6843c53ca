// Where an application meant to go before a redirect rule sent its connection here: conntrack remembers it (SO_ORIGINAL_DST).
import type { HostPort } from '../address.ts';
import { decodeSockaddr, IP, IPV6, SOCKADDR_SIZE, SOL } from './layout.ts';
import { libc } from './syscalls.ts';

/** Places for one call: nothing runs between filling and reading them. */
const ADDRESS = Buffer.alloc(SOCKADDR_SIZE);
const LENGTH = Buffer.alloc(4);

/** Undefined when conntrack does not know the connection (no redirect). IPv4 is asked first: it also serves v4-mapped sockets. */
export function originalDestination(fd: number): HostPort | undefined {
  return read(fd, SOL.IP, IP.ORIGINAL_DST) ?? read(fd, SOL.IPV6, IPV6.ORIGINAL_DST);
}

function read(fd: number, level: number, name: number): HostPort | undefined {
  LENGTH.writeInt32LE(SOCKADDR_SIZE);
  return libc().getsockopt(fd, level, name, ADDRESS, LENGTH) < 0 ? undefined : decodeSockaddr(ADDRESS);
}
