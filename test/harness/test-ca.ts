// Certificates for tests, made in process: a P-256 root and leaves with URI SANs, with any dates and any fault a test wants.
import { createPublicKey, generateKeyPairSync, randomBytes, sign, X509Certificate, type KeyObject } from 'node:crypto';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';

export interface LeafOptions {
  /** More URI SANs after the identity. */
  extraUris?: readonly string[];
  /** DNS SANs, for control-plane servers. */
  dnsNames?: readonly string[];
  notBefore?: Date;
  notAfter?: Date;
  /** Trusted roots of the holder; default this CA's. */
  roots?: string;
  /** Of a holder that keeps its private key to itself: SubjectPublicKeyInfo, DER. The result's key is then of no use. */
  publicKey?: Buffer;
}

export interface TestCa {
  readonly organization: string;
  /** What its holders trust, PEM. */
  readonly root: string;
  /** Its own certificate, PEM: the root, or one below that. */
  readonly certificate: string;
  /** Of its own certificate. */
  readonly key: KeyObject;
  /** `identity` is usually a SPIFFE ID; any text may be given to make a wrong one. */
  issue(identity: string, options?: LeafOptions): WorkloadCertificate;
}

const OID = {
  sha256: '1.2.840.10045.4.3.2',
  organization: '2.5.4.10',
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  subjectAltName: '2.5.29.17',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
};
const HOUR = 3_600_000;

/** A root, or an authority below `parent`, whose chains have its own certificate behind the leaf. */
export function createTestCa(organization = 'culvert test', parent?: TestCa): TestCa {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const own = certificate({
    issuer: parent?.organization ?? organization,
    subject: organization,
    publicKey,
    signer: parent?.key ?? privateKey,
    notBefore: new Date(Date.now() - 24 * HOUR),
    notAfter: new Date(Date.now() + 24 * HOUR),
    extensions: [
      extension(OID.basicConstraints, sequence(der(0x01, Buffer.from([0xff]))), true),
      extension(OID.keyUsage, der(0x03, Buffer.from([1, 0x06])), true),
    ],
  });
  const root = parent?.root ?? own.toString();
  return {
    organization,
    root,
    certificate: own.toString(),
    key: privateKey,
    issue(identity, options = {}) {
      const leafKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const uris = [identity, ...(options.extraUris ?? [])].map((uri) => der(0x86, Buffer.from(uri)));
      const names = (options.dnsNames ?? []).map((name) => der(0x82, Buffer.from(name)));
      const leaf = certificate({
        issuer: organization,
        subject: '',
        publicKey: options.publicKey
          ? createPublicKey({ key: options.publicKey, format: 'der', type: 'spki' })
          : leafKey.publicKey,
        signer: privateKey,
        notBefore: options.notBefore ?? new Date(Date.now() - HOUR),
        notAfter: options.notAfter ?? new Date(Date.now() + HOUR),
        extensions: [
          extension(OID.keyUsage, der(0x03, Buffer.from([7, 0x80])), true),
          extension(OID.extendedKeyUsage, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
          extension(OID.subjectAltName, sequence(...uris, ...names), true),
        ],
      });
      return {
        identity: identity as SpiffeId,
        chain: parent ? `${leaf.toString()}${own.toString()}` : leaf.toString(),
        key: leafKey.privateKey.export({ type: 'pkcs8', format: 'pem' }),
        roots: options.roots ?? root,
        notBefore: leaf.validFromDate.getTime(),
        notAfter: leaf.validToDate.getTime(),
        serial: BigInt(`0x${leaf.serialNumber}`).toString(),
      };
    },
  };
}

interface Tbs {
  issuer: string;
  subject: string;
  publicKey: KeyObject;
  signer: KeyObject;
  notBefore: Date;
  notAfter: Date;
  extensions: Buffer[];
}

function certificate(parts: Tbs): X509Certificate {
  const algorithm = sequence(oid(OID.sha256));
  const serial = randomBytes(12);
  serial[0] = 0x40 | ((serial[0] ?? 0) & 0x3f);
  const tbs = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    name(parts.issuer),
    sequence(time(parts.notBefore), time(parts.notAfter)),
    name(parts.subject),
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...parts.extensions)),
  );
  const signature = sign('sha256', tbs, parts.signer);
  return new X509Certificate(sequence(tbs, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), signature]))));
}

function name(organization: string): Buffer {
  if (organization === '') return sequence();
  return sequence(der(0x31, sequence(oid(OID.organization), der(0x0c, Buffer.from(organization)))));
}

/** GeneralizedTime, `YYYYMMDDHHMMSSZ`. */
function time(date: Date): Buffer {
  return der(0x18, Buffer.from(`${date.toISOString().replace(/[-:T]/gu, '').slice(0, 14)}Z`));
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [der(0x01, Buffer.from([0xff]))] : []), der(0x04, value));
}

function sequence(...parts: Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
}

/** Tag, length, value. */
function der(tag: number, value: Buffer): Buffer {
  const length = value.length;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), value]);
}
