// Revocation lists as a certificate authority would write them.
import { sign, X509Certificate, type KeyObject } from 'node:crypto';
import type { TestCa } from './test-ca.ts';

export function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

const ECDSA_SHA256 = der(0x30, Buffer.from('06082a8648ce3d040302', 'hex'));

/** The octets of a name with one organisation, as the test authority writes it. */
const issuerName = (organization: string): Buffer =>
  der(0x30, der(0x31, der(0x30, Buffer.from('060355040a', 'hex'), der(0x0c, Buffer.from(organization)))));

/** A list of the authority, in DER. `nextUpdate`: long past, in the year 2049, or left out. */
export function crl(
  key: KeyObject,
  serials: readonly string[],
  organization = 'culvert test',
  algorithm = ECDSA_SHA256,
  nextUpdate: 'past' | 'future' | 'none' = 'past',
): Buffer {
  const time = (text: string): Buffer => der(0x17, Buffer.from(text));
  const entries = serials.map((serial) => der(0x30, der(0x02, Buffer.from(serial, 'hex')), time('200101000000Z')));
  const revoked = entries.length > 0 ? [der(0x30, ...entries)] : [];
  const signed = der(
    0x30,
    der(0x02, Buffer.from([1])),
    algorithm,
    issuerName(organization),
    time('200101000000Z'),
    ...{ past: [time('200102000000Z')], future: [time('490102000000Z')], none: [] }[nextUpdate],
    ...revoked,
  );
  return der(0x30, signed, algorithm, der(0x03, Buffer.from([0]), sign('sha256', signed, key)));
}

export const serialOf = (pem: string): string => new X509Certificate(pem).serialNumber;
/** A list of the certificates. */
export const revoking = (authority: TestCa, ...pems: string[]): Buffer => crl(authority.key, pems.map(serialOf));
