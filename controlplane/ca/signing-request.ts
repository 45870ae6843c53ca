// Reads a PKCS#10 request from whoever sent it: every fault is a `bad_request` that says what is wrong, never a crash.
import { createPublicKey, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { MeshError } from '#shared/errors.ts';
import { bitsOf, fromDer, OID, oidOf, sequenceOf, toDer } from '#shared/identity/asn1.ts';
import { fromPem } from '#shared/identity/pem.ts';

/** Requests of honest clients are under 2 KiB, with RSA 4096 too. */
const MAX_CSR = 16 * 1024;
const MIN_RSA_BITS = 2048;
const CURVES = ['prime256v1', 'secp384r1'];

/** Signature algorithms by OID, as node:crypto names their hash; `undefined` for those without one. */
const HASHES = new Map<string, string | undefined>([
  [OID.ecdsaWithSha256, 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.3.101.112', undefined],
]);

/**
 * The public key of a request whose signature proves that the sender holds the private one. Names in the request are ignored: the
 * certificate is for whom the caller proved to be.
 * @returns SubjectPublicKeyInfo, DER
 */
export function readSigningRequest(pem: string): Buffer {
  if (pem.length > MAX_CSR) throw refused(`larger than ${MAX_CSR} bytes`);
  const [der, more] = [...fromPem('CERTIFICATE REQUEST', pem), ...fromPem('NEW CERTIFICATE REQUEST', pem)];
  if (!der || more) throw refused('not exactly one PEM block CERTIFICATE REQUEST');
  try {
    return checked(der);
  } catch (error) {
    throw error instanceof MeshError ? error : refused(MeshError.from(error).message, error);
  }
}

function checked(der: Buffer): Buffer {
  const request = fromDer(der);
  // What was parsed must be what was signed, byte for byte.
  if (!toDer(request).equals(der)) throw refused('not DER');
  const [info, algorithm, signature, more] = sequenceOf(request) ?? [];
  const [, , spki] = sequenceOf(info) ?? [];
  const hash = oidOf(sequenceOf(algorithm)?.[0]);
  const signed = bitsOf(signature);
  if (!info || !sequenceOf(spki) || !spki || !signed || more || hash === undefined) throw refused('not a PKCS#10 request');
  if (!HASHES.has(hash)) throw refused(`signature algorithm ${hash} is not supported`);
  const publicKey = toDer(spki);
  const key = createPublicKey({ key: publicKey, format: 'der', type: 'spki' });
  checkKey(key);
  if (!verify(HASHES.get(hash), toDer(info), key, signed)) throw refused('the signature is not made with the key of the request');
  return publicKey;
}

function checkKey(key: KeyObject): void {
  const { namedCurve = '', modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'ec':
      if (!CURVES.includes(namedCurve)) throw refused(`curve ${namedCurve} is not one of ${CURVES.join(', ')}`);
      return;
    case 'rsa':
      if (modulusLength < MIN_RSA_BITS || modulusLength > 8192) throw refused(`an RSA key of ${modulusLength} bits`);
      return;
    case 'ed25519':
      return;
    default:
      throw refused(`a key of type ${key.asymmetricKeyType ?? 'unknown'}`);
  }
}

function refused(reason: string, cause?: unknown): MeshError {
  return new MeshError('bad_request', `the certificate signing request is refused: ${reason}`, { cause });
}
