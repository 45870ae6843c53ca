// A workload's key and its certificate signing request (PKCS#10, RFC 2986): P-256, empty subject, one URI SAN, SHA-256.
import { generateKeyPair, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { SpiffeId } from '../ids.ts';
import { extension, fromDer, GENERAL_NAME, integer, OID, oid, bits, sequence, set, tagged, toDer } from './asn1.ts';
import { toPem } from './pem.ts';

const generate = promisify(generateKeyPair);

export interface SigningRequest {
  /** PEM. */
  csr: string;
  privateKey: KeyObject;
}

/** A new key and the request for it. */
export async function createSigningRequest(identity: SpiffeId): Promise<SigningRequest> {
  const { privateKey, publicKey } = await generate('ec', { namedCurve: 'P-256' });
  const spki = fromDer(publicKey.export({ type: 'spki', format: 'der' }));
  const names = sequence(tagged(GENERAL_NAME.uri, Buffer.from(identity)));
  const extensions = sequence(oid(OID.extensionRequest), set(sequence(extension(OID.subjectAltName, names))));
  const info = sequence(integer(Uint8Array.of(0)), sequence(), spki, tagged(0, [extensions]));
  const signature = sign('sha256', toDer(info), privateKey);
  const request = sequence(info, sequence(oid(OID.ecdsaWithSha256)), bits(signature));
  return { csr: toPem('CERTIFICATE REQUEST', toDer(request)), privateKey };
}
