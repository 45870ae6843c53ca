// The certificates of the main thread as a worker has them: pushed when they change, asked for when one is missing.
import type { Clock } from '../clock.ts';
import type { CertificateSource, WorkloadCertificate } from '../identity/certificate.ts';
import type { SpiffeId } from '../ids.ts';

export class CertificateMirror implements CertificateSource {
  readonly #clock: Clock;
  readonly #ask: (identity: SpiffeId) => Promise<WorkloadCertificate>;
  readonly #held = new Map<SpiffeId, WorkloadCertificate>();
  readonly #asking = new Map<SpiffeId, Promise<WorkloadCertificate>>();

  constructor(clock: Clock, ask: (identity: SpiffeId) => Promise<WorkloadCertificate>) {
    this.#clock = clock;
    this.#ask = ask;
  }

  /** A new one, or the end of an identity that is no longer needed. */
  set(identity: SpiffeId, certificate: WorkloadCertificate | undefined): void {
    if (certificate) this.#held.set(identity, certificate);
    else this.#held.delete(identity);
  }

  async get(identity: SpiffeId): Promise<WorkloadCertificate> {
    return this.#current(identity) ?? (await this.#fetch(identity));
  }

  #current(identity: SpiffeId): WorkloadCertificate | undefined {
    const held = this.#held.get(identity);
    return held && held.notAfter > this.#clock.now() ? held : undefined;
  }

  /** One question at a time for an identity. */
  #fetch(identity: SpiffeId): Promise<WorkloadCertificate> {
    const asking = this.#asking.get(identity) ?? this.#askFor(identity).finally(() => this.#asking.delete(identity));
    this.#asking.set(identity, asking);
    return asking;
  }

  /** Kept, as the object is what TLS settings are made of once. What was pushed meanwhile is newer. */
  async #askFor(identity: SpiffeId): Promise<WorkloadCertificate> {
    const answer = await this.#ask(identity);
    const pushed = this.#current(identity);
    if (!pushed) this.#held.set(identity, answer);
    return pushed ?? answer;
  }
}
