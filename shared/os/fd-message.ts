// One message with at most one descriptor over a Unix socket: sendmsg(2) and recvmsg(2) with SCM_RIGHTS. Never blocks.
import { closeSync } from 'node:fs';
import { CMSG, IOVEC, MSG, MSGHDR, SCM_RIGHTS, SOL } from './layout.ts';
import { addressOf } from './memory.ts';
import { libc } from './syscalls.ts';

/** Room for more descriptors than are ever welcome, so that strays can be counted and closed. */
const CONTROL_SIZE = CMSG.data + 4 * 8;

export interface FdMessage {
  readonly data: Uint8Array;
  /** At most one; the receiver owns and closes it. */
  readonly fds: readonly number[];
  /** The message or its descriptors did not fit: `data` is only its beginning, and no descriptor was kept. */
  readonly truncated: boolean;
}

/** Returns bytes sent, or -1 with errno. The descriptor stays the sender's. */
export function sendMessage(socket: number, data: Uint8Array, fd?: number): number {
  const control = Buffer.alloc(fd === undefined ? 0 : CMSG.data + CMSG.align);
  if (fd !== undefined) {
    control.writeBigUInt64LE(BigInt(CMSG.data + 4), CMSG.length);
    control.writeInt32LE(SOL.SOCKET, CMSG.level);
    control.writeInt32LE(SCM_RIGHTS, CMSG.type);
    control.writeInt32LE(fd, CMSG.data);
  }
  const iovec = Buffer.alloc(IOVEC.size);
  return libc().sendmsg(socket, header(iovec, data, control), MSG.DONTWAIT | MSG.NOSIGNAL);
}

/** Receives into `space`; -1 with errno, 0 at the end of the stream, else the message (its data copied out of `space`). */
export function receiveMessage(socket: number, space: Uint8Array): -1 | 0 | FdMessage {
  const control = Buffer.alloc(CONTROL_SIZE);
  const iovec = Buffer.alloc(IOVEC.size);
  const message = header(iovec, space, control);
  const received = libc().recvmsg(socket, message, MSG.DONTWAIT | MSG.CMSG_CLOEXEC);
  if (received < 0) return -1;
  const fds = descriptors(control.subarray(0, Number(message.readBigUInt64LE(MSGHDR.controlLength))));
  const flags = message.readInt32LE(MSGHDR.flags);
  const truncated = (flags & (MSG.TRUNC | MSG.CTRUNC)) !== 0 || fds.length > 1;
  if (truncated) for (const fd of fds.splice(0)) closeSync(fd);
  return received === 0 && !truncated && fds.length === 0
    ? 0
    : { data: Uint8Array.from(space.subarray(0, received)), fds, truncated };
}

/** struct msghdr; every array it points to must stay referenced until the call returns. */
function header(iovec: Buffer, data: Uint8Array, control: Buffer): Buffer {
  iovec.writeBigUInt64LE(data.length === 0 ? 0n : BigInt(addressOf(data)), IOVEC.base);
  iovec.writeBigUInt64LE(BigInt(data.length), IOVEC.length);
  const message = Buffer.alloc(MSGHDR.size);
  message.writeBigUInt64LE(BigInt(addressOf(iovec)), MSGHDR.iovecs);
  message.writeBigUInt64LE(1n, MSGHDR.iovecCount);
  if (control.length > 0) message.writeBigUInt64LE(BigInt(addressOf(control)), MSGHDR.control);
  message.writeBigUInt64LE(BigInt(control.length), MSGHDR.controlLength);
  return message;
}

function descriptors(control: Buffer): number[] {
  const found: number[] = [];
  for (let at = 0; at + CMSG.data <= control.length;) {
    const length = Number(control.readBigUInt64LE(at + CMSG.length));
    const end = Math.min(at + length, control.length);
    if (length < CMSG.data) break;
    if (control.readInt32LE(at + CMSG.level) === SOL.SOCKET && control.readInt32LE(at + CMSG.type) === SCM_RIGHTS)
      for (let fd = at + CMSG.data; fd + 4 <= end; fd += 4) found.push(control.readInt32LE(fd));
    at += Math.ceil(length / CMSG.align) * CMSG.align;
  }
  return found;
}
