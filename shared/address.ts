// IP addresses and socket addresses. Addresses are canonical text inside the mesh (IPv4 dotted, IPv6 compressed lower case, never
// v4-mapped) and network-order bytes on the wire.
import { isIPv4, isIPv6, SocketAddress } from 'node:net';

export interface HostPort {
  /** Canonical IP text without brackets. */
  readonly ip: string;
  readonly port: number;
}

/** Addresses met of late, by IP. */
const KNOWN = new Map<string, HostPort[]>();
const MOST_IPS = 4096;
/** Of one IP: a pod has its application's port and that of its tunnels. */
const MOST_PORTS = 8;

/**
 * One object for all who mean the same address: tens of thousands of open connections go to a few hundred places. Not for clients, whose ports
 * are never the same.
 */
export function knownAddress(ip: string, port: number): HostPort {
  let ofIp = KNOWN.get(ip);
  if (!ofIp) {
    if (KNOWN.size === MOST_IPS) KNOWN.clear();
    KNOWN.set(ip, (ofIp = []));
  }
  for (const known of ofIp) if (known.port === port) return known;
  if (ofIp.length === MOST_PORTS) ofIp.shift();
  const address = { ip, port };
  ofIp.push(address);
  return address;
}

/** `1.2.3.4:80`, `[fd00::1]:80` */
export function formatHostPort(address: HostPort): string {
  return address.ip.includes(':') ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`;
}

/** Canonical text of an IP address; v4-mapped IPv6 becomes IPv4. Undefined when it is none. */
export function canonicalIp(text: string): string | undefined {
  if (isIPv4(text)) return text;
  if (!isIPv6(text)) return undefined;
  const address = new SocketAddress({ family: 'ipv6', address: text }).address.toLowerCase();
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/u.exec(address);
  return mapped?.[1] ?? address;
}

/** 4 or 16 network-order bytes to canonical text; undefined for any other length. */
export function ipFromBytes(bytes: Uint8Array): string | undefined {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return undefined;
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)).toString(16));
  return canonicalIp(groups.join(':'));
}

/** Canonical or any other valid IP text to its 4 or 16 network-order bytes; undefined when it is not an IP address. */
export function ipToBytes(text: string): Uint8Array | undefined {
  return dottedToBytes(text) ?? anyToBytes(text);
}

/** The four bytes of a dotted IPv4 address, read digit by digit: each connection converts several, and a regular expression costs more. */
function dottedToBytes(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let part = 0;
  let digits = 0;
  let value = 0;
  for (let i = 0; i <= text.length; i++) {
    const digit = i === text.length ? DOT : text.charCodeAt(i) - ZERO;
    if (digit >= 0 && digit <= 9) {
      if (digits > 0 && value === 0) return undefined;
      value = value * 10 + digit;
      digits++;
    } else if (digit === DOT && digits > 0 && value <= 255 && part < 4) {
      bytes[part++] = value;
      value = 0;
      digits = 0;
    } else return undefined;
  }
  return part === 4 ? bytes : undefined;
}

const ZERO = 0x30;
/** The dot's code as a digit. */
const DOT = 0x2e - ZERO;

function anyToBytes(text: string): Uint8Array | undefined {
  const canonical = canonicalIp(text);
  if (canonical === undefined) return undefined;
  if (isIPv4(canonical)) return Uint8Array.from(canonical.split('.'), Number);
  // inet_ntop writes the deprecated v4-compatible block (::a.b.c.d) with a dotted tail.
  const hex = canonical.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/u, (_, ...parts: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number);
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
  const [head = '', tail] = hex.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => '0'), ...right];
  return Uint8Array.from(groups.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]));
}
