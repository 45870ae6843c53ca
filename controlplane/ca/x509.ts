// Builds and signs X.509 certificates (RFC 5280). Structure by node-forge's ASN.1, signature by node:crypto.
import { createHash, randomBytes, sign, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { ipToBytes } from '#shared/address.ts';
import {
  bits,
  bitsOf,
  boolean,
  extension,
  fromDer,
  GENERAL_NAME,
  integer,
  itemsOf,
  octets,
  OID,
  oid,
  sequence,
  set,
  tagged,
  time,
  toDer,
  utf8,
} from '#shared/identity/asn1.ts';
import type { Asn1 } from '#shared/identity/asn1.ts';

/** The certificate that signs, and its key. */
export interface Signer {
  certificate: X509Certificate;
  key: KeyObject;
}

export interface CertificateTemplate {
  /** SubjectPublicKeyInfo, DER. */
  publicKey: Buffer;
  /** Organisation of the subject; '' for an empty subject. */
  organization: string;
  uris?: readonly string[];
  dnsNames?: readonly string[];
  ips?: readonly string[];
  /** Milliseconds since the epoch. */
  notBefore: number;
  notAfter: number;
  ca: boolean;
}

/** Bits of KeyUsage from the left, RFC 5280 4.2.1.3. */
const LEAF_USAGE = { bits: Uint8Array.of(0b1010_0000), unused: 5 };
const CA_USAGE = { bits: Uint8Array.of(0b0000_0110), unused: 1 };
const RSA_WITH_SHA256 = '1.2.840.113549.1.1.11';
const NULL = Buffer.from('0500', 'hex');

/** A certificate signed by `signer`, or self-signed when only a key is given. */
export function issueCertificate(template: CertificateTemplate, signer: Signer | { key: KeyObject }): X509Certificate {
  const algorithm = signatureAlgorithm(signer.key);
  const subject = nameOf(template.organization);
  const issuer = 'certificate' in signer ? subjectOf(signer.certificate) : subject;
  const issuerKeyId =
    'certificate' in signer
      ? keyIdOf(signer.certificate.publicKey.export({ type: 'spki', format: 'der' }))
      : keyIdOf(template.publicKey);
  const tbs = sequence(
    tagged(0, [integer(Uint8Array.of(2))]),
    integer(serialNumber()),
    algorithm,
    issuer,
    sequence(time(template.notBefore), time(template.notAfter)),
    subject,
    fromDer(template.publicKey),
    tagged(3, [sequence(...extensions(template, issuerKeyId))]),
  );
  const signature = sign('sha256', toDer(tbs), signer.key);
  return new X509Certificate(toDer(sequence(tbs, algorithm, bits(signature))));
}

function extensions(template: CertificateTemplate, issuerKeyId: Buffer): Asn1[] {
  const usage = template.ca ? CA_USAGE : LEAF_USAGE;
  const list = [
    extension(OID.keyUsage, bits(usage.bits, usage.unused), true),
    extension(OID.basicConstraints, template.ca ? sequence(boolean(true)) : sequence(), true),
    extension(OID.subjectKeyIdentifier, octets(keyIdOf(template.publicKey))),
    extension(OID.authorityKeyIdentifier, sequence(tagged(0, issuerKeyId))),
  ];
  if (!template.ca) list.push(extension(OID.extendedKeyUsage, sequence(oid(OID.serverAuth), oid(OID.clientAuth))));
  const names = generalNames(template);
  // Critical when there is no subject to go by (RFC 5280 4.2.1.6).
  if (names.length > 0) list.push(extension(OID.subjectAltName, sequence(...names), template.organization === ''));
  return list;
}

function generalNames({ uris = [], dnsNames = [], ips = [] }: CertificateTemplate): Asn1[] {
  return [
    ...uris.map((uri) => tagged(GENERAL_NAME.uri, Buffer.from(uri))),
    ...dnsNames.map((name) => tagged(GENERAL_NAME.dns, Buffer.from(name))),
    ...ips.flatMap((ip) => ipToBytes(ip) ?? []).map((bytes) => tagged(GENERAL_NAME.ip, bytes)),
  ];
}

function nameOf(organization: string): Asn1 {
  return organization === '' ? sequence() : sequence(set(sequence(oid(OID.organization), utf8(organization))));
}

/** The subject exactly as the signer's certificate spells it: verifiers compare the bytes. */
function subjectOf(certificate: X509Certificate): Asn1 {
  const tbs = itemsOf(itemsOf(fromDer(certificate.raw))?.[0]) ?? [];
  // version [0], serial, algorithm, issuer, validity, subject
  return tbs[5] ?? sequence();
}

/** 128 random bits, positive and never zero. */
function serialNumber(): Buffer {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  return serial;
}

/** SHA-1 of the key's bits, RFC 5280 4.2.1.2 (1): a name, not a security measure. */
function keyIdOf(spki: Buffer): Buffer {
  const key = bitsOf(itemsOf(fromDer(spki))?.[1]) ?? spki;
  return createHash('sha1').update(key).digest();
}

function signatureAlgorithm(key: KeyObject): Asn1 {
  return key.asymmetricKeyType === 'rsa' ? sequence(oid(RSA_WITH_SHA256), fromDer(NULL)) : sequence(oid(OID.ecdsaWithSha256));
}
