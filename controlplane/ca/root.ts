// What signs: a root of our own in the state directory, or an intermediate that an operator plugs in (facts: control plane 3).
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { splitCertificates } from '#shared/identity/pem.ts';
import { readIfThere, readOrCreate, replaceFile } from './state-file.ts';
import { issueCertificate } from './x509.ts';
import type { Signer } from './x509.ts';

export interface Authority extends Signer {
  /** PEM, what a leaf's holder must present between leaf and root; '' for a root of our own. */
  intermediates: string;
  /** PEM bundle. */
  roots: string;
}

export interface AuthorityOptions {
  stateDir: string;
  /** Folder of a plugged-in CA; unset or empty of its files: a root of our own. */
  cacertsDir?: string | undefined;
  trustDomain: string;
  clock: Clock;
}

const YEAR = 365 * 24 * 3_600_000;
const ROOT_LIFE = 10 * YEAR;
/** A root with less than this share of its life left is renewed with the same key, so that old leaves stay valid. */
const RENEW_BELOW = 0.2;
const BACKDATE = 2 * 60_000;

/** Istio's own file names, and those of a kubernetes.io/tls Secret. */
const LAYOUTS = [
  { certificate: 'ca-cert.pem', key: 'ca-key.pem', root: 'root-cert.pem', chain: 'cert-chain.pem' },
  { certificate: 'tls.crt', key: 'tls.key', root: 'ca.crt', chain: undefined },
] as const;

/** Loads or makes the authority and writes `root-cert.pem`. Rejects with a MeshError that names the file at fault. */
export async function loadAuthority(options: AuthorityOptions): Promise<Authority> {
  const plugged = options.cacertsDir === undefined ? undefined : await loadPluggedIn(options.cacertsDir);
  const authority = plugged ?? (await loadSelfSigned(options));
  if (authority.certificate.validToDate.getTime() <= options.clock.now())
    throw new MeshError('invalid_config', `the CA certificate has expired on ${authority.certificate.validTo}`);
  await replaceFile(join(options.stateDir, 'root-cert.pem'), authority.roots, 0o644);
  return authority;
}

/** Key and certificate are one file, so that they always belong together. */
async function loadSelfSigned({ stateDir, trustDomain, clock }: AuthorityOptions): Promise<Authority> {
  const path = join(stateDir, 'ca.pem');
  const now = clock.now();
  const stored = parsePair(path, await readOrCreate(path, () => newRoot(generateKey(), trustDomain, now)));
  const { validFromDate, validToDate } = stored.certificate;
  const life = validToDate.getTime() - validFromDate.getTime();
  if (validToDate.getTime() - now > life * RENEW_BELOW) return selfSigned(stored);
  const renewed = newRoot(stored.key, trustDomain, now);
  await replaceFile(path, renewed, 0o600);
  return selfSigned(parsePair(path, renewed));
}

function selfSigned(pair: Signer): Authority {
  return { ...pair, intermediates: '', roots: pair.certificate.toString() };
}

function generateKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

function newRoot(key: KeyObject, trustDomain: string, now: number): string {
  const publicKey = publicKeyOf(key);
  const window = { notBefore: now - BACKDATE, notAfter: now + ROOT_LIFE };
  const certificate = issueCertificate({ publicKey, organization: trustDomain, ca: true, ...window }, { key });
  return certificate.toString() + key.export({ type: 'pkcs8', format: 'pem' });
}

async function loadPluggedIn(folder: string): Promise<Authority | undefined> {
  for (const layout of LAYOUTS) {
    const [certificate, key, root, chain] = await Promise.all(
      [layout.certificate, layout.key, layout.root, layout.chain].map(async (name) =>
        name === undefined ? '' : readIfThere(join(folder, name)),
      ),
    );
    if (certificate === undefined && key === undefined) continue;
    const missing = [
      certificate === undefined && layout.certificate,
      key === undefined && layout.key,
      root === undefined && layout.root,
    ];
    const names = missing.filter((name) => name !== false);
    if (names.length > 0)
      throw new MeshError('invalid_config', `${folder}: the plugged-in CA is incomplete, missing ${names.join(', ')}`);
    return pluggedIn(folder, certificate ?? '', key ?? '', root ?? '', chain ?? '');
  }
  return undefined;
}

function pluggedIn(folder: string, certificate: string, key: string, root: string, chain: string): Authority {
  const pair = parsePair(folder, `${certificate}\n${key}`);
  if (!pair.certificate.ca)
    throw new MeshError('invalid_config', `${folder}: the plugged-in certificate is not a CA certificate`);
  const roots = splitCertificates(root);
  const intermediates = [...new Set([...splitCertificates(certificate), ...splitCertificates(chain)])].filter(
    (pem) => !roots.includes(pem),
  );
  if (roots.length === 0) throw new MeshError('invalid_config', `${folder}: no root certificate`);
  return { ...pair, intermediates: intermediates.join(''), roots: roots.join('') };
}

function parsePair(where: string, text: string): Signer {
  try {
    const certificate = new X509Certificate(text);
    const key = createPrivateKey(text);
    if (certificate.checkPrivateKey(key)) return { certificate, key };
  } catch (error) {
    throw new MeshError('invalid_config', `${where}: cannot read the CA certificate and key: ${MeshError.from(error).message}`, {
      cause: error,
    });
  }
  throw new MeshError('invalid_config', `${where}: the CA key is not the certificate's key`);
}

function publicKeyOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}
