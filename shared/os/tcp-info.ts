// What the kernel knows of a TCP connection (TCP_INFO), and how long it may wait for an acknowledgement (TCP_USER_TIMEOUT).
import { i32, SOL, TCP, TCP_INFO } from './layout.ts';
import { check, libc } from './syscalls.ts';

/** Times in microseconds, sizes in bytes. */
export interface TcpInfo {
  /** The kernel's number: 1 established, 8 close-wait, and so on. */
  readonly state: number;
  readonly rtt: number;
  readonly rttVariance: number;
  /** The least seen lately. */
  readonly rttMin: number;
  /** The size of a segment that is sent. */
  readonly segmentSize: number;
  /** In segments. */
  readonly congestionWindow: number;
  readonly unacknowledged: number;
  readonly retransmits: number;
  readonly bytesAcknowledged: bigint;
  readonly bytesReceived: bigint;
  readonly segmentsReceived: number;
  /** Written by us and not yet sent. */
  readonly unsent: number;
}

/** Fields that an older kernel does not have are 0. */
export function tcpInfo(fd: number): TcpInfo {
  const bytes = Buffer.alloc(TCP_INFO.size);
  check(
    libc().getsockopt(fd, SOL.TCP, TCP.INFO, bytes, i32(bytes.length)),
    `look at the connection of descriptor ${fd}`,
    'getsockopt',
  );
  return {
    state: bytes.readUInt8(TCP_INFO.state),
    rtt: bytes.readUInt32LE(TCP_INFO.rtt),
    rttVariance: bytes.readUInt32LE(TCP_INFO.rttVariance),
    rttMin: bytes.readUInt32LE(TCP_INFO.rttMin),
    segmentSize: bytes.readUInt32LE(TCP_INFO.segmentSize),
    congestionWindow: bytes.readUInt32LE(TCP_INFO.congestionWindow),
    unacknowledged: bytes.readUInt32LE(TCP_INFO.unacknowledged),
    retransmits: bytes.readUInt32LE(TCP_INFO.retransmits),
    bytesAcknowledged: bytes.readBigUInt64LE(TCP_INFO.bytesAcknowledged),
    bytesReceived: bytes.readBigUInt64LE(TCP_INFO.bytesReceived),
    segmentsReceived: bytes.readUInt32LE(TCP_INFO.segmentsReceived),
    unsent: bytes.readUInt32LE(TCP_INFO.unsent),
  };
}
