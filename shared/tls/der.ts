// Just enough DER (X.690) to read names and lists out of certificates and revocation lists.
import { MeshError } from '../errors.ts';

export const TAG = {
  BOOLEAN: 0x01,
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OID: 0x06,
  UTC_TIME: 0x17,
  TIME: 0x18,
  SEQUENCE: 0x30,
} as const;

export interface Element {
  readonly tag: number;
  readonly content: Uint8Array;
  /** With tag and length. */
  readonly whole: Uint8Array;
}

/** The elements of which `bytes` is made; throws `bad_request` where it is not made of elements. */
export function elements(bytes: Uint8Array): Element[] {
  const found: Element[] = [];
  for (let at = 0; at < bytes.length;) {
    const element = first(bytes.subarray(at));
    found.push(element);
    at += element.whole.length;
  }
  return found;
}

/** The one element that `bytes` starts with. */
export function first(bytes: Uint8Array): Element {
  const [tag, length] = [bytes[0], bytes[1]];
  if (tag === undefined || length === undefined || (tag & 0x1f) === 0x1f) throw malformed();
  let [start, size] = [2, length];
  if (length >= 0x80) {
    const octets = length & 0x7f;
    if (octets === 0 || octets > 4) throw malformed();
    start += octets;
    size = bytes.subarray(2, start).reduce((sum, octet) => sum * 256 + octet, 0);
  }
  if (start + size > bytes.length) throw malformed();
  return { tag, content: bytes.subarray(start, start + size), whole: bytes.subarray(0, start + size) };
}

function malformed(): MeshError {
  return new MeshError('bad_request', 'not well-formed DER');
}
