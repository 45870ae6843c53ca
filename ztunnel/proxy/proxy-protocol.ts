// The PROXY header, version 2, that tells an application behind a tunnel who the client is (facts: ztunnel 4).
import type { HostPort } from '#shared/address.ts';
import { ipToBytes } from '#shared/address.ts';

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
/** Version 2, command PROXY. */
const PROXY = 0x21;
const FAMILY = { ipv4: 0x11, ipv6: 0x21 } as const;
/** The type that carries the source's SPIFFE ID. */
const TLV_IDENTITY = 0xd0;
/** The type that carries the host name that was asked for. */
const TLV_TARGET_HOST = 0xd1;

export interface ProxyHeader {
  readonly source: HostPort;
  readonly destination: HostPort;
  /** Left out when unknown. */
  readonly identity: string | undefined;
  /** The name of the service, where the tunnel asked for one by name. */
  readonly targetHost?: string | undefined;
}

export function proxyHeader({ source, destination, identity, targetHost }: ProxyHeader): Uint8Array {
  const v4 = !source.ip.includes(':') && !destination.ip.includes(':');
  const addresses = [source, destination].map(({ ip }) => addressBytes(ip, v4));
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  const named = identity === undefined ? [] : [tlv(TLV_IDENTITY, identity)];
  if (targetHost !== undefined) named.push(tlv(TLV_TARGET_HOST, targetHost));
  const body = Buffer.concat([...addresses, ports, ...named]);
  const head = Buffer.from([PROXY, v4 ? FAMILY.ipv4 : FAMILY.ipv6, body.length >> 8, body.length & 0xff]);
  return Buffer.concat([SIGNATURE, head, body]);
}

/** Of mixed families, the IPv4 one is written in its mapped form, so that no address is lost. */
function addressBytes(ip: string, v4: boolean): Uint8Array {
  const bytes = ipToBytes(ip) ?? new Uint8Array(v4 ? 4 : 16);
  if (v4 || bytes.length === 16) return bytes;
  return Uint8Array.from([...new Uint8Array(10), 0xff, 0xff, ...bytes]);
}

function tlv(type: number, text: string): Buffer {
  const value = Buffer.from(text);
  return Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 0xff]), value]);
}
