// What lives when the revocation lists change: a tunnel whose chain has a certificate that is now listed ends at once, in both directions,
// and so does a relay within the node one of whose ends has such a certificate (relay-revocations.ts).
import { MeshError } from '#shared/errors.ts';
import type { HbonePool, HboneServerSession } from '#shared/hbone/api.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import type { PeerCertificate } from '#shared/reactor/api.ts';
import type { Revocations } from '#shared/tls/revocation.ts';
import type { Reporter, TrafficMetrics } from '../telemetry/traffic-metrics.ts';
import { RelayRevocations } from './relay-revocations.ts';

export class LiveRevocations {
  readonly relays: RelayRevocations;
  readonly #lists: Revocations;
  readonly #metrics: Pick<TrafficMetrics, 'revoked'>;
  readonly #sessions = new Set<HboneServerSession>();
  #pools: () => Iterable<HbonePool> = () => [];

  constructor(lists: Revocations, certificates: CertificateSource, metrics: Pick<TrafficMetrics, 'revoked'>) {
    this.relays = new RelayRevocations(lists, certificates, metrics);
    this.#lists = lists;
    this.#metrics = metrics;
    lists.onChange(() => this.#review());
  }

  /** Tunnels of these are the outgoing ones. */
  watchPools(pools: () => Iterable<HbonePool>): void {
    this.#pools = pools;
  }

  /** A connection of a peer, until it is disposed of. */
  watch(session: HboneServerSession): Disposable {
    this.#sessions.add(session);
    return { [Symbol.dispose]: () => void this.#sessions.delete(session) };
  }

  /** Counts it when it failed because of a list. */
  handshakeFailed(reporter: Reporter, { code }: MeshError): void {
    if (code === 'cert_revoked') this.#metrics.revoked.add(1, reporter);
  }

  #review(): void {
    for (const session of this.#sessions) {
      const reason = this.#refusal('destination', session.conn.peer);
      if (!reason) continue;
      this.#sessions.delete(session);
      session.close(reason);
    }
    for (const pool of this.#pools()) pool.review((peer) => this.#refusal('source', peer));
    void this.relays.review();
  }

  #refusal(reporter: Reporter, { chain }: PeerCertificate): MeshError | undefined {
    const reason = this.#lists.refusal(chain);
    if (!reason) return undefined;
    this.#metrics.revoked.add(1, reporter);
    return new MeshError('cert_revoked', 'connection closed: peer certificate revoked by CRL', { cause: reason });
  }
}
