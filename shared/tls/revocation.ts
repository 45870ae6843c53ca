// Certificate revocation lists (RFC 5280 5): which certificates of a verified chain their issuers have taken back. The rules are Istio's:
// every certificate of the chain is looked up, one whose issuer has no list is good, and an outdated list still counts. OpenSSL's own check
// knows only other rules, so it is done here, behind the verification of the chain and for both backends.
import { verify, X509Certificate } from 'node:crypto';
import { MeshError } from '../errors.ts';
import { fromPem } from '../identity/pem.ts';
import { elements, first, TAG, type Element } from './der.ts';

/** Hash by signature algorithm (the octets of its OID): ECDSA and RSA with SHA-2, and Ed25519, which hashes itself. */
const HASHES = new Map<string, string | null>([
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2b6570', null],
]);
/** What a list may weigh, so that a broken file cannot take the memory of the process. */
const MAX_SIZE = 64 * 1024 * 1024;

interface RevocationList {
  /** The DER of the name, as everywhere here in hexadecimal. */
  readonly issuer: string;
  readonly serials: ReadonlySet<string>;
  readonly signed: Uint8Array;
  readonly hash: string | null;
  readonly signature: Uint8Array;
}

/** A certificate that its issuer has taken back. */
export interface RevokedCertificate {
  /** In hexadecimal, as its list has it. */
  readonly serial: string;
  /** Of the chain: its leaf, or one of those that vouch for it. */
  readonly whose: 'its own' | 'an issuer';
}

export class Revocations {
  #lists: readonly RevocationList[] = [];
  readonly #listeners = new Set<() => void>();

  /** True while no list is known: then nothing is looked up. */
  get empty(): boolean {
    return this.#lists.length === 0;
  }

  /** Replaces all lists: PEM with any number of them, one in DER, or nothing at all. Throws `invalid_config` and keeps what it had. */
  update(file: Uint8Array): void {
    this.#lists = parse(file);
    for (const listener of this.#listeners) listener();
  }

  /** Called after each update(), so that what is open can be asked again; returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Why a verified chain (DER, the leaf first, the root last) is good no more; undefined when it is. */
  refusal(chain: readonly Uint8Array[] = []): MeshError | undefined {
    const revoked = this.find(chain);
    return revoked && new MeshError('cert_revoked', `peer certificate ${revokedBy(revoked)}`);
  }

  /** The first certificate of such a chain that is listed. */
  find(chain: readonly Uint8Array[]): RevokedCertificate | undefined {
    if (this.empty) return undefined;
    for (const [depth, certificate] of chain.entries()) {
      const { serial, issuer } = identify(certificate);
      const authority = chain[depth + 1] ?? certificate;
      // Two authorities may have one name, as an old root and its successor do.
      const lists = this.#lists.filter((list) => list.issuer === issuer && list.serials.has(serial));
      if (lists.some((list) => isSignedBy(list, authority))) return { serial, whose: depth === 0 ? 'its own' : 'an issuer' };
    }
    return undefined;
  }
}

/** For people. */
export function revokedBy({ whose, serial }: RevokedCertificate): string {
  return `revoked by CRL (${whose}, serial ${serial})`;
}

function parse(file: Uint8Array): RevocationList[] {
  if (file.length > MAX_SIZE) throw new MeshError('invalid_config', `CRL: ${file.length} bytes, ${MAX_SIZE} are the most`);
  const text = Buffer.from(file).toString('latin1');
  if (text.trim() === '') return [];
  const blocks = text.includes('-----BEGIN') ? fromPem('X509 CRL', text) : [file];
  if (blocks.length === 0) throw new MeshError('invalid_config', 'CRL: no block "X509 CRL" in the PEM');
  return blocks.map((der, index) => {
    try {
      return parseList(der);
    } catch (thrown) {
      throw new MeshError('invalid_config', `CRL ${index + 1}: ${MeshError.from(thrown).message}`, { cause: thrown });
    }
  });
}

/** CertificateList ::= SEQUENCE { tbsCertList, signatureAlgorithm, signatureValue BIT STRING } */
function parseList(der: Uint8Array): RevocationList {
  const [signed, algorithm, signature] = elements(first(der).content);
  const fields = elements(signed?.content ?? der);
  if (fields[0]?.tag === TAG.INTEGER) fields.shift();
  const [, issuer, thisUpdate, ...rest] = fields;
  if (issuer?.tag !== TAG.SEQUENCE || !isTime(thisUpdate) || signature?.tag !== TAG.BIT_STRING || !signed || !algorithm)
    throw new MeshError('bad_request', 'not a certificate revocation list');
  if (isTime(rest[0])) rest.shift();
  const oid = hex(elements(algorithm.content)[0]?.content);
  const hash = HASHES.get(oid);
  if (hash === undefined) throw new MeshError('bad_request', `signature algorithm ${oid} is not known`);
  const revoked = rest[0]?.tag === TAG.SEQUENCE ? elements(rest[0].content) : [];
  return {
    issuer: hex(issuer.whole),
    serials: new Set(revoked.map((entry) => hex(first(entry.content).content))),
    signed: signed.whole,
    hash,
    signature: signature.content.subarray(1),
  };
}

/** Certificate ::= SEQUENCE { SEQUENCE { [0] version, serial, algorithm, issuer, … }, … } */
function identify(certificate: Uint8Array): { serial: string; issuer: string } {
  const fields = elements(first(first(certificate).content).content);
  if (fields[0]?.tag === 0xa0) fields.shift();
  return { serial: hex(fields[0]?.content), issuer: hex(fields[2]?.whole) };
}

/** Only now: a list whose signature is wrong revokes nothing, and hardly any list is ever asked. */
function isSignedBy({ hash, signed, signature }: RevocationList, issuer: Uint8Array): boolean {
  const { publicKey } = new X509Certificate(issuer);
  try {
    return verify(hash, signed, publicKey, signature);
  } catch {
    // A key that knows no such hash, as Ed25519 knows none, has not signed it.
    return false;
  }
}

function isTime(element: Element | undefined): boolean {
  return element?.tag === TAG.UTC_TIME || element?.tag === TAG.TIME;
}

function hex(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('hex');
}
