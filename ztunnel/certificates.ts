// Keeps a certificate ready for every identity that this node's pods have, and lets go of those that left.
import type { Clock } from '#shared/clock.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateSource, WorkloadCertificate } from '#shared/identity/certificate.ts';
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

/** How long a start waits for the CA when nothing else is missing, ms: a connection waits for its certificate anyway. */
const CERTIFICATES_TIMEOUT = 5000;

/** Resolves when every identity of this node's pods has a certificate, or could not get one in time. Never rejects. */
export async function certificatesOf(store: MeshStore, certificates: CertificateSource, clock: Clock): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = clock.after(CERTIFICATES_TIMEOUT, late.resolve);
  const asked = Array.from(store.workloads.localIdentities(), (identity) => certificates.get(identity));
  await Promise.race([Promise.allSettled(asked), late.promise]);
  timer.cancel();
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
