// New certificates of the main thread, on their way to whoever has copies of them.
import type { WorkloadCertificate } from '../identity/certificate.ts';
import type { SpiffeId } from '../ids.ts';

export type CertificateListener = (identity: SpiffeId, certificate: WorkloadCertificate | undefined) => void;

/** New certificates, and the end of those that are no longer needed, told to whoever follows. */
export class CertificateFeed {
  readonly #listeners = new Set<CertificateListener>();

  readonly tell: CertificateListener = (identity, certificate) => {
    for (const listener of this.#listeners) listener(identity, certificate);
  };

  /** Returns the way to stop. */
  follow(listener: CertificateListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
