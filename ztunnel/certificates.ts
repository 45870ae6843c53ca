// Keeps a certificate ready for every identity that this node's pods have, and lets go of those that left.
import type { SpiffeId } from '#shared/ids.ts';
import type { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { MeshStore } from './state/store.ts';

/** Follows the store until disposed. */
export function followLocalIdentities(store: MeshStore, cache: Pick<CertificateCache, 'prefetch' | 'forget'>): Disposable {
  let held: ReadonlySet<SpiffeId> = new Set();
  const update = (): void => {
    const needed = store.workloads.localIdentities();
    for (const identity of needed.difference(held)) cache.prefetch(identity);
    for (const identity of held.difference(needed)) cache.forget(identity);
    held = needed;
  };
  const stop = store.onChange(update);
  update();
  return { [Symbol.dispose]: stop };
}

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
