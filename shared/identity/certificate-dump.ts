// A certificate as /config_dump shows it (facts: ztunnel 13). Keys are never part of it.
import { X509Certificate } from 'node:crypto';
import type { MeshError } from '../errors.ts';
import type { SpiffeId } from '../ids.ts';
import type { WorkloadCertificate } from './certificate.ts';
import { splitCertificates } from './pem.ts';

export interface CertificateEntry {
  /** base64 of the PEM. */
  pem: string;
  /** Decimal. */
  serialNumber: string;
  /** RFC 3339. */
  validFrom: string;
  expirationTime: string;
}

export interface CertificateDump {
  identity: SpiffeId;
  /** `Available`, `Initializing`, or `Unavailable: why`. */
  state: string;
  certChain: CertificateEntry[];
  rootCerts: CertificateEntry[];
}

export function describeCertificate(
  identity: SpiffeId,
  certificate: WorkloadCertificate | undefined,
  fault: MeshError | undefined,
  now: number,
): CertificateDump {
  return {
    identity,
    state: stateOf(certificate, fault, now),
    certChain: certificate ? entries(certificate.chain) : [],
    rootCerts: certificate ? entries(certificate.roots) : [],
  };
}

function stateOf(certificate: WorkloadCertificate | undefined, fault: MeshError | undefined, now: number): string {
  if (certificate && certificate.notAfter > now) return 'Available';
  if (fault) return `Unavailable: ${fault.message}`;
  return certificate ? 'Unavailable: expired' : 'Initializing';
}

function entries(bundle: string): CertificateEntry[] {
  return splitCertificates(bundle).map((pem) => {
    const { serialNumber, validFromDate, validToDate } = new X509Certificate(pem);
    return {
      pem: Buffer.from(pem).toString('base64'),
      serialNumber: BigInt(`0x${serialNumber}`).toString(),
      validFrom: validFromDate.toISOString(),
      expirationTime: validToDate.toISOString(),
    };
  });
}
