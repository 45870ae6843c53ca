// Certificates as the mesh's CA issues them: a P-256 root and a leaf with a SPIFFE ID.
import { generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { issueCertificate } from '../../controlplane/ca/x509.ts';

const HOUR = 3_600_000;

export function workloadCertificate(): WorkloadCertificate {
  const window = { notBefore: Date.now() - HOUR, notAfter: Date.now() + HOUR };
  const identity = 'spiffe://cluster.local/ns/bench/sa/bench' as SpiffeId;
  const root = newKey();
  const authority = issueCertificate({ publicKey: root.spki, organization: 'bench', ca: true, ...window }, { key: root.key });
  const leaf = newKey();
  const certificate = issueCertificate(
    { publicKey: leaf.spki, organization: '', uris: [identity], ca: false, ...window },
    { key: root.key, certificate: authority },
  );
  return {
    identity,
    chain: certificate.toString(),
    key: leaf.key.export({ type: 'pkcs8', format: 'pem' }),
    roots: authority.toString(),
    notBefore: window.notBefore,
    notAfter: window.notAfter,
    serial: BigInt(`0x${certificate.serialNumber}`).toString(),
  };
}

function newKey(): { key: KeyObject; spki: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { key: privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) };
}
