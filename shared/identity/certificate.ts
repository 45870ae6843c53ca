// A workload's certificate as the data plane uses it. The private key stays in memory and is never logged.
import type { SpiffeId } from '../ids.ts';

export interface WorkloadCertificate {
  readonly identity: SpiffeId;
  /** PEM, the leaf first, then intermediates. */
  readonly chain: string;
  /** PEM, PKCS#8. */
  readonly key: string;
  /** PEM bundle of trusted roots. */
  readonly roots: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Decimal serial number of the leaf. */
  readonly serial: string;
}

/** Hands out the current certificate of an identity; waits for the first one (facts: ztunnel 7). */
export interface CertificateSource {
  /** Rejects with `no_certificate` when none can be had. */
  get(identity: SpiffeId): Promise<WorkloadCertificate>;
}
