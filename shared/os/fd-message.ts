// One message with at most one descriptor over a Unix socket: sendmsg(2) and recvmsg(2) with SCM_RIGHTS. Never blocks.
import { closeSync } from 'node:fs';
import { MSG, SCM_RIGHTS, SOL } from './layout.ts';
import { addressOf } from './memory.ts';
import { libc } from './syscalls.ts';

const IOVEC_SIZE = 16;
const MSGHDR_SIZE = 56;
const CMSG_HEADER = 16;
/** Room for more descriptors than are ever welcome, so that strays can be counted and closed. */
const CONTROL_SIZE = CMSG_HEADER + 4 * 8;

export interface FdMessage {
  readonly data: Uint8Array;
  /** At most one; the receiver owns and closes it. */
  readonly fds: readonly number[];
  /** The message or its descriptors did not fit: `data` is only its beginning, and no descriptor was kept. */
  readonly truncated: boolean;
}

/** Returns bytes sent, or -1 with errno. The descriptor stays the sender's. */
export function sendMessage(socket: number, data: Uint8Array, fd?: number): number {
  const control = Buffer.alloc(fd === undefined ? 0 : CMSG_HEADER + 8);
  if (fd !== undefined) {
    control.writeBigUInt64LE(BigInt(CMSG_HEADER + 4), 0);
    control.writeInt32LE(SOL.SOCKET, 8);
    control.writeInt32LE(SCM_RIGHTS, 12);
    control.writeInt32LE(fd, CMSG_HEADER);
  }
  const iovec = Buffer.alloc(IOVEC_SIZE);
  return libc().sendmsg(socket, header(iovec, data, control), MSG.DONTWAIT | MSG.NOSIGNAL);
}

/** Receives into `space`; -1 with errno, 0 at the end of the stream, else the message (its data copied out of `space`). */
export function receiveMessage(socket: number, space: Uint8Array): -1 | 0 | FdMessage {
  const control = Buffer.alloc(CONTROL_SIZE);
  const iovec = Buffer.alloc(IOVEC_SIZE);
  const message = header(iovec, space, control);
  const received = libc().recvmsg(socket, message, MSG.DONTWAIT | MSG.CMSG_CLOEXEC);
  if (received < 0) return -1;
  const fds = descriptors(control.subarray(0, Number(message.readBigUInt64LE(40))));
  const flags = message.readInt32LE(48);
  const truncated = (flags & (MSG.TRUNC | MSG.CTRUNC)) !== 0 || fds.length > 1;
  if (truncated) for (const fd of fds.splice(0)) closeSync(fd);
  return received === 0 && !truncated && fds.length === 0
    ? 0
    : { data: Uint8Array.from(space.subarray(0, received)), fds, truncated };
}

/** struct msghdr; every array it points to must stay referenced until the call returns. */
function header(iovec: Buffer, data: Uint8Array, control: Buffer): Buffer {
  iovec.writeBigUInt64LE(data.length === 0 ? 0n : BigInt(addressOf(data)), 0);
  iovec.writeBigUInt64LE(BigInt(data.length), 8);
  const message = Buffer.alloc(MSGHDR_SIZE);
  message.writeBigUInt64LE(BigInt(addressOf(iovec)), 16);
  message.writeBigUInt64LE(1n, 24);
  if (control.length > 0) message.writeBigUInt64LE(BigInt(addressOf(control)), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  return message;
}

function descriptors(control: Buffer): number[] {
  const found: number[] = [];
  for (let at = 0; at + CMSG_HEADER <= control.length;) {
    const length = Number(control.readBigUInt64LE(at));
    const end = Math.min(at + length, control.length);
    if (length < CMSG_HEADER) break;
    if (control.readInt32LE(at + 8) === SOL.SOCKET && control.readInt32LE(at + 12) === SCM_RIGHTS)
      for (let fd = at + CMSG_HEADER; fd + 4 <= end; fd += 4) found.push(control.readInt32LE(fd));
    at += Math.ceil(length / 8) * 8;
  }
  return found;
}
