// The PROXY header as an application reads it, by the specification and not by the code that writes it.
import { ipFromBytes } from '#shared/address.ts';

export interface ReceivedHeader {
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly tlvs: Readonly<Record<string, string>>;
  /** What came behind it. */
  readonly rest: string;
}

/** A PROXY header of version 2 for a stream, read as the specification has it; undefined while it is not complete. */
export function parseProxyHeader(bytes: Buffer): ReceivedHeader | undefined {
  if (bytes.length < 16 || bytes.length < 16 + bytes.readUInt16BE(14)) return undefined;
  if (bytes.toString('latin1', 0, 12) !== '\r\n\r\n\0\r\nQUIT\n') throw new Error('no signature');
  if (bytes[12] !== 0x21) throw new Error('not version 2, command PROXY');
  const size = { 0x11: 4, 0x21: 16 }[bytes[13] ?? 0];
  if (size === undefined) throw new Error('neither TCP over IPv4 nor over IPv6');
  const end = 16 + bytes.readUInt16BE(14);
  const address = (at: number): string => ipFromBytes(bytes.subarray(at, at + size)) ?? '';
  const tlvs: Record<string, string> = {};
  for (let at = 16 + 2 * size + 4; at < end;) {
    const length = bytes.readUInt16BE(at + 1);
    tlvs[`0x${(bytes[at] ?? 0).toString(16)}`] = bytes.toString('utf8', at + 3, at + 3 + length);
    at += 3 + length;
  }
  return {
    source: address(16),
    destination: address(16 + size),
    port: bytes.readUInt16BE(16 + 2 * size + 2),
    tlvs,
    rest: bytes.toString('latin1', end),
  };
}
