// Trust domains that mean the same mesh: its own, and those that it had before or shares (Istio's trustDomainAliases). An identity of one
// of them is as good as the same one of another.
import type { SpiffeId } from '../ids.ts';
import { parseSpiffeId, spiffeId } from '../ids.ts';

export class TrustDomains {
  readonly #bundle: readonly string[];

  /** `own`: the domain that certificates of this mesh are of. */
  constructor(own: string, aliases: readonly string[]) {
    this.#bundle = [...new Set([own, ...aliases])];
  }

  /** Domains whose peers are those of `domain`. */
  alike(domain: string): readonly string[] {
    return this.#bundle.includes(domain) ? this.#bundle : [domain];
  }

  /** The identity in every domain that means its own; itself alone where there are no aliases. */
  spellings(identity: SpiffeId): readonly SpiffeId[] {
    if (this.#bundle.length === 1) return [identity];
    const parts = parseSpiffeId(identity);
    return parts ? this.alike(parts.trustDomain).map((trustDomain) => spiffeId({ ...parts, trustDomain })) : [identity];
  }

  /** All spellings of all identities; the list itself where there are no aliases. */
  spellingsOf(identities: readonly SpiffeId[]): readonly SpiffeId[] {
    return this.#bundle.length === 1 ? identities : identities.flatMap((identity) => this.spellings(identity));
  }
}
