// Who is at the other end of a Unix socket, as the kernel noted it at connect time (SO_PEERCRED).
import { i32, SO, SOL, UCRED } from './layout.ts';
import { check, libc } from './syscalls.ts';

export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

export function peerCredentials(fd: number): PeerCredentials {
  const bytes = Buffer.alloc(UCRED.size);
  check(
    libc().getsockopt(fd, SOL.SOCKET, SO.PEERCRED, bytes, i32(bytes.length)),
    'read the credentials of a Unix socket peer',
    'getsockopt',
  );
  return { pid: bytes.readInt32LE(UCRED.pid), uid: bytes.readUInt32LE(UCRED.uid), gid: bytes.readUInt32LE(UCRED.gid) };
}
