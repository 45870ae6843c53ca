// The control plane's own TLS side: a certificate from its own CA, renewed while connections go on, client certificates optional.
import { experimental } from '@grpc/grpc-js';
import type { ServerCredentials } from '@grpc/grpc-js';
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Issuer } from './issuer.ts';

type IdentityListener = experimental.IdentityCertificateUpdateListener;
type CaListener = experimental.CaCertificateUpdateListener;

const RETRY = 60_000;

/** Feeds grpc-js with the current certificate; new connections take the newest. */
export class ServerCertificate implements experimental.CertificateProvider, Disposable {
  #issuer: Issuer;
  #names: readonly string[];
  #clock: Clock;
  #log: Log;
  #identityListeners = new Set<IdentityListener>();
  #current: experimental.IdentityCertificateUpdate;
  #timer: Timer | undefined;

  /** Issues the first certificate; throws when the CA cannot. */
  constructor(issuer: Issuer, names: readonly string[], clock: Clock, log: Log) {
    this.#issuer = issuer;
    this.#names = names;
    this.#clock = clock;
    this.#log = log;
    this.#current = this.#issue();
  }

  /** For every TLS port. Clients may show a certificate of this mesh; one that does not verify counts as none. */
  credentials(): ServerCredentials {
    return experimental.createCertificateProviderServerCredentials(this, this, false);
  }

  /** PEM, for other TLS servers of this process (webhooks). */
  get current(): { chain: string; key: string } {
    return { chain: this.#current.certificate.toString(), key: this.#current.privateKey.toString() };
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener);
    // Not within the call: grpc-js would not pass on to its server what it hears before the call returns.
    queueMicrotask(() => listener(this.#current));
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
  }

  addCaCertificateListener(listener: CaListener): void {
    queueMicrotask(() => listener({ caCertificate: Buffer.from(this.#issuer.authority.roots) }));
  }

  /** The roots do not change while the process runs. */
  removeCaCertificateListener(): void {}

  [Symbol.dispose](): void {
    this.#timer?.cancel();
  }

  #issue(): experimental.IdentityCertificateUpdate {
    const { leaf, chain, key } = this.#issuer.issueServer(this.#names);
    const half = (leaf.validToDate.getTime() - this.#clock.now()) / 2;
    this.#timer = this.#clock.after(half, () => this.#renew());
    return { certificate: Buffer.from(chain), privateKey: Buffer.from(key) };
  }

  /** The old one lives for as long again, so a failure is retried in calm. */
  #renew(): void {
    try {
      this.#current = this.#issue();
      for (const listener of this.#identityListeners) listener(this.#current);
      this.#log.info('server certificate renewed');
    } catch (error) {
      this.#log.error('cannot renew the server certificate', { error: MeshError.from(error) });
      this.#timer = this.#clock.after(RETRY, () => this.#renew());
    }
  }
}
