// Revocation lists for connections that never leave the node: no handshake shows a certificate there, so the ones that this node holds for
// the two identities are looked up, when a relay is opened and whenever the lists change.
import { X509Certificate } from 'node:crypto';
import { MeshError } from '#shared/errors.ts';
import type { CertificateSource, WorkloadCertificate } from '#shared/identity/certificate.ts';
import { fromPem } from '#shared/identity/pem.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { CancelScope } from '#shared/lifecycle/cancel.ts';
import type { Revocations } from '#shared/tls/revocation.ts';
import type { Reporter, TrafficMetrics } from '../telemetry/traffic-metrics.ts';

/** Who is at the two ends of a relay. */
export interface RelayEnds {
  readonly source: SpiffeId;
  readonly destination: SpiffeId;
}

interface LiveRelay {
  readonly ends: RelayEnds;
  readonly cancel: Pick<CancelScope, 'cancel'>;
}

export class RelayRevocations {
  readonly #lists: Revocations;
  readonly #certificates: CertificateSource;
  readonly #metrics: Pick<TrafficMetrics, 'revoked'>;
  readonly #live = new Set<LiveRelay>();
  /** What the lists of this moment say of a certificate: each connection of an identity has the same one. */
  #known = new WeakMap<WorkloadCertificate, { readonly refusal: MeshError | undefined }>();

  constructor(lists: Revocations, certificates: CertificateSource, metrics: Pick<TrafficMetrics, 'revoked'>) {
    this.#lists = lists;
    this.#certificates = certificates;
    this.#metrics = metrics;
  }

  /**
   * Ends `cancel` when either end is revoked, until it is disposed of. Rejects with `cert_revoked` when one is by now, and with
   * `no_certificate` when there are lists and an end has nothing that could be looked up in them: a tunnel would fail as well.
   */
  async watch(ends: RelayEnds, cancel: Pick<CancelScope, 'cancel'>): Promise<Disposable> {
    // Before the first look: lists that change while certificates are fetched count too.
    const relay = { ends, cancel };
    this.#live.add(relay);
    try {
      if (!this.#lists.empty) await this.#require(relay);
    } catch (thrown) {
      this.#live.delete(relay);
      throw thrown;
    }
    return { [Symbol.dispose]: () => void this.#live.delete(relay) };
  }

  /** The lists have changed. */
  async review(): Promise<void> {
    this.#known = new WeakMap();
    if (this.#lists.empty) return;
    const identities = new Set<SpiffeId>();
    for (const { ends } of this.#live) identities.add(ends.source).add(ends.destination);
    await Promise.all(Array.from(identities, (identity) => this.#reviewOf(identity)));
  }

  async #reviewOf(identity: SpiffeId): Promise<void> {
    const refusal = await this.#refusalOf(identity).catch(() => undefined);
    if (!refusal) return;
    for (const relay of this.#live) {
      const reporter = verifierOf(relay.ends, identity);
      if (!reporter) continue;
      this.#live.delete(relay);
      this.#metrics.revoked.add(1, reporter);
      relay.cancel.cancel(
        new MeshError('cert_revoked', 'connection closed: peer certificate revoked by CRL', { cause: refusal }),
      );
    }
  }

  async #require(relay: LiveRelay): Promise<void> {
    const { source, destination } = relay.ends;
    for (const identity of [source, destination]) {
      const refusal = await this.#refusalOf(identity);
      if (!refusal) continue;
      // Lists that came meanwhile may have cut and counted it.
      if (this.#live.delete(relay)) this.#metrics.revoked.add(1, verifierOf(relay.ends, identity) ?? 'destination');
      throw refusal;
    }
  }

  async #refusalOf(identity: SpiffeId): Promise<MeshError | undefined> {
    const certificate = await this.#certificates.get(identity);
    let known = this.#known.get(certificate);
    if (!known) {
      known = { refusal: this.#lists.refusal(chainOf(certificate)) };
      this.#known.set(certificate, known);
    }
    return known.refusal;
  }
}

/** Which end would have been shown the certificate of the identity; undefined: it is at neither. */
function verifierOf({ source, destination }: RelayEnds, identity: SpiffeId): Reporter | undefined {
  if (identity === source) return 'destination';
  return identity === destination ? 'source' : undefined;
}

/** As a peer would have verified it: DER, the leaf first, the root that signed the rest last. */
export function chainOf({ chain, roots }: WorkloadCertificate): Buffer[] {
  const own = fromPem('CERTIFICATE', chain);
  const last = own.at(-1);
  const root =
    last && fromPem('CERTIFICATE', roots).find((each) => new X509Certificate(last).checkIssued(new X509Certificate(each)));
  return root && !root.equals(last) ? [...own, root] : own;
}
