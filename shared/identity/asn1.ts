// The few ASN.1 shapes that certificates and signing requests are made of, over node-forge. Bytes go in and out as Buffers.
import type forge from 'node-forge';
import asn1 from 'node-forge/lib/asn1.js';

export type Asn1 = forge.asn1.Asn1;

export const OID = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  extensionRequest: '1.2.840.113549.1.9.14',
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

/** GeneralName choices, RFC 5280 4.2.1.6. */
export const GENERAL_NAME = { dns: 2, uri: 6, ip: 7 } as const;

const { Class, Type } = asn1;
/** No structure of X.509 nests deeper; a deeper one is an attack on the stack. */
const MAX_DEPTH = 32;

export function sequence(...items: Asn1[]): Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, items);
}

export function set(...items: Asn1[]): Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.SET, true, items);
}

export function oid(text: string): Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.OID, false, asn1.oidToDer(text).getBytes());
}

/** A non-negative integer from big-endian bytes, in its shortest form. */
export function integer(bytes: Uint8Array): Asn1 {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const short = bytes.subarray(start);
  const value = (short[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), short]) : short;
  return asn1.create(Class.UNIVERSAL, Type.INTEGER, false, binary(value));
}

export function boolean(value: boolean): Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.BOOLEAN, false, value ? '\xff' : '\0');
}

export function utf8(text: string): Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.UTF8, false, binary(Buffer.from(text)));
}

export function octets(bytes: Uint8Array): Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.OCTETSTRING, false, binary(bytes));
}

export function bits(bytes: Uint8Array, unused = 0): Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.BITSTRING, false, String.fromCharCode(unused) + binary(bytes));
}

/** A context-specific tag over raw bytes, or over items. */
export function tagged(tag: number, content: Uint8Array | Asn1[]): Asn1 {
  return Array.isArray(content)
    ? asn1.create(Class.CONTEXT_SPECIFIC, tag, true, content)
    : asn1.create(Class.CONTEXT_SPECIFIC, tag, false, binary(content));
}

/** UTCTime until 2049, GeneralizedTime after (RFC 5280 4.1.2.5). */
export function time(ms: number): Asn1 {
  const date = new Date(ms);
  return date.getUTCFullYear() < 2050
    ? asn1.create(Class.UNIVERSAL, Type.UTCTIME, false, asn1.dateToUtcTime(date))
    : asn1.create(Class.UNIVERSAL, Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date));
}

/** Extension ::= SEQUENCE { id, critical DEFAULT FALSE, value OCTET STRING }. */
export function extension(id: string, value: Asn1, critical = false): Asn1 {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(toDer(value)));
}

export function toDer(node: Asn1): Buffer {
  return Buffer.from(asn1.toDer(node).getBytes(), 'binary');
}

/** Throws on anything but one well-formed value. Bit strings stay bytes: what they hold is nobody's business here. */
export function fromDer(bytes: Uint8Array): Asn1 {
  return asn1.fromDer(binary(bytes), { strict: true, parseAllBytes: true, decodeBitStrings: false, maxDepth: MAX_DEPTH });
}

/** The parts of a constructed value; undefined for a primitive one. */
export function itemsOf(node: Asn1 | undefined): Asn1[] | undefined {
  return node?.constructed && Array.isArray(node.value) ? node.value : undefined;
}

/** The parts of a SEQUENCE; undefined for anything else. */
export function sequenceOf(node: Asn1 | undefined): Asn1[] | undefined {
  return node?.tagClass === Class.UNIVERSAL && node.type === Type.SEQUENCE ? itemsOf(node) : undefined;
}

/** The content of a primitive value; undefined for a constructed one. */
export function bytesOf(node: Asn1 | undefined): Buffer | undefined {
  return node && typeof node.value === 'string' ? Buffer.from(node.value, 'binary') : undefined;
}

export function oidOf(node: Asn1 | undefined): string | undefined {
  return node?.tagClass === Class.UNIVERSAL && node.type === Type.OID && typeof node.value === 'string'
    ? asn1.derToOid(node.value)
    : undefined;
}

/** The whole bytes of a BIT STRING; undefined when it ends within a byte, which no key or signature does. */
export function bitsOf(node: Asn1 | undefined): Buffer | undefined {
  const content = node?.tagClass === Class.UNIVERSAL && node.type === Type.BITSTRING ? bytesOf(node) : undefined;
  return content?.[0] === 0 ? content.subarray(1) : undefined;
}

/** node-forge holds bytes as strings of char codes. */
function binary(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('binary');
}
