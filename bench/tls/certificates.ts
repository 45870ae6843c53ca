// Certificates as the mesh's CA issues them: a P-256 root and a leaf with a SPIFFE ID, or of a server.
import { generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { CertificateTemplate } from '../../controlplane/ca/x509.ts';
import { issueCertificate } from '../../controlplane/ca/x509.ts';

const HOUR = 3_600_000;

export function workloadCertificate(): WorkloadCertificate {
  const identity = 'spiffe://cluster.local/ns/bench/sa/bench' as SpiffeId;
  const { authority, certificate, key, window } = issue({ uris: [identity] });
  return {
    identity,
    chain: certificate.toString(),
    key: key.export({ type: 'pkcs8', format: 'pem' }),
    roots: authority.toString(),
    notBefore: window.notBefore,
    notAfter: window.notAfter,
    serial: BigInt(`0x${certificate.serialNumber}`).toString(),
  };
}

/** PEM, of a server on this machine. */
export function serverCertificate(): { chain: string; key: string; roots: string } {
  const { authority, certificate, key } = issue({ dnsNames: ['localhost'] });
  const pem = key.export({ type: 'pkcs8', format: 'pem' });
  return { chain: certificate.toString(), key: pem, roots: authority.toString() };
}

function issue(names: Pick<CertificateTemplate, 'uris' | 'dnsNames'>) {
  const window = { notBefore: Date.now() - HOUR, notAfter: Date.now() + HOUR };
  const root = newKey();
  const authority = issueCertificate({ publicKey: root.spki, organization: 'bench', ca: true, ...window }, { key: root.key });
  const leaf = newKey();
  const certificate = issueCertificate(
    { publicKey: leaf.spki, organization: '', ...names, ca: false, ...window },
    { key: root.key, certificate: authority },
  );
  return { authority, certificate, key: leaf.key, window };
}

function newKey(): { key: KeyObject; spki: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { key: privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) };
}
