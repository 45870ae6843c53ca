// What a struct msghdr points to, looked at before the kernel follows it (CULVERT_DEBUG_POINTERS=1): its arrays must be ours, live, and as long
// as it says.
import { faultOf, isKnown } from './known-memory.ts';
import { CMSG, IOVEC, MSGHDR } from './layout.ts';
import { copyOf } from './memory.ts';
import type { Fail } from './pointer-check.ts';

/** The kernel's UIO_MAXIOV. */
const MOST_IOVECS = 1024;

/** The rule of sendmsg(2) and recvmsg(2). */
export function checkMessage(fail: Fail, _call: unknown, _fd: number, message: Uint8Array | null): void {
  const header = Buffer.from(message ?? []);
  const number = (at: number): number => Number(header.readBigUInt64LE(at));
  /** Fails unless these bytes are in an array of ours. */
  const must = (what: string, address: number, length: number): void => {
    if (!isKnown(address, length)) fail(2, `${what}: ${faultOf(address, length) ?? `${address} is in no array`}`);
  };
  const count = number(MSGHDR.iovecCount);
  if (count > MOST_IOVECS) fail(2, `${count} iovecs`);
  const iovecs = number(MSGHDR.iovecs);
  if (count > 0) must('iovecs', iovecs, count * IOVEC.size);
  const table = copyOf(iovecs, count * IOVEC.size);
  for (let at = 0; at < table.length; at += IOVEC.size) {
    const length = Number(table.readBigUInt64LE(at + IOVEC.length));
    if (length > 0) must(`iovec ${at / IOVEC.size}`, Number(table.readBigUInt64LE(at + IOVEC.base)), length);
  }
  const control = number(MSGHDR.controlLength);
  if (control === 0) return;
  must('control', number(MSGHDR.control), control);
  // Of a message to be received it is room, and holds zeros.
  const first = Number(copyOf(number(MSGHDR.control), control).readBigUInt64LE(CMSG.length));
  if (first !== 0 && (first < CMSG.data || first > control)) fail(2, `control: a message of ${first} bytes in ${control}`);
}
