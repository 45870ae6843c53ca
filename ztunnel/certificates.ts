// Keeps a certificate ready for every identity that this node's pods have, and lets go of those that left.
import type { Clock } from '#shared/clock.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import type { MeshStore } from './state/store.ts';
import type { PodIdentity } from './state/workloads.ts';

/** The identities that this node needs certificates for: of its captured workloads, and of pods that are served before the mesh hears of it. */
export class LocalIdentities implements Disposable {
  readonly #store: MeshStore;
  readonly #cache: Pick<CertificateCache, 'prefetch' | 'forget'>;
  readonly #served = new Set<PodIdentity>();
  readonly #stop: () => void;
  #held: ReadonlySet<SpiffeId> = new Set();

  /** Follows the store until disposed. */
  constructor(store: MeshStore, cache: Pick<CertificateCache, 'prefetch' | 'forget'>) {
    this.#store = store;
    this.#cache = cache;
    this.#stop = store.onChange(() => this.#update());
    this.#update();
  }

  /**
   * The pod is served until the token is disposed. What the control plane says of it is that it is captured, and that comes only when
   * the agent has told: by then its first connection has long asked.
   */
  serve(who: PodIdentity): Disposable {
    this.#served.add(who);
    this.#update();
    return {
      [Symbol.dispose]: () => {
        this.#served.delete(who);
        this.#update();
      },
    };
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  #update(): void {
    const needed = this.#store.workloads.localIdentities();
    for (const who of this.#served) {
      const workload = this.#store.workloads.localPod(who);
      if (workload) needed.add(workload.identity);
    }
    for (const identity of needed.difference(this.#held)) this.#cache.prefetch(identity);
    for (const identity of this.#held.difference(needed)) this.#cache.forget(identity);
    this.#held = needed;
  }
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
