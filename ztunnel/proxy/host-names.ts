// Addresses of hosts outside of the mesh's own knowledge: workloads that are known by a host name alone, and what SOCKS5 clients ask for.
// The system's resolver is asked, with its hosts file and name servers; it does not tell lifetimes.
import { lookup } from 'node:dns/promises';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';

/** How long an answer is used, ms: DNS names that move have lifetimes of seconds. Failures are not kept. */
const KEPT = 5000;
/** Names whose answers are kept. */
const MAX_NAMES = 1000;

interface Answer {
  readonly addresses: Promise<readonly string[]>;
  readonly until: number;
}

export class HostNames {
  readonly #clock: Clock;
  readonly #family: 0 | 4;
  /** In the order in which they were asked for. */
  readonly #answers = new Map<string, Answer>();

  constructor(clock: Clock, { ipv6 }: { readonly ipv6: boolean }) {
    this.#clock = clock;
    this.#family = ipv6 ? 0 : 4;
  }

  /** Its addresses in the resolver's order, one at least; all who ask for a name share one question. Rejects with `connect_failed`. */
  resolve(hostname: string): Promise<readonly string[]> {
    const now = this.#clock.monotonic();
    const known = this.#answers.get(hostname);
    if (known && known.until > now) return known.addresses;
    const addresses = this.#ask(hostname);
    const answer = { addresses, until: now + KEPT };
    this.#answers.delete(hostname);
    this.#answers.set(hostname, answer);
    const [oldest] = this.#answers.keys();
    if (this.#answers.size > MAX_NAMES && oldest !== undefined) this.#answers.delete(oldest);
    addresses.catch(() => {
      if (this.#answers.get(hostname) === answer) this.#answers.delete(hostname);
    });
    return addresses;
  }

  async #ask(hostname: string): Promise<readonly string[]> {
    try {
      const found = await lookup(hostname, { all: true, family: this.#family });
      return found.map(({ address }) => address);
    } catch (thrown) {
      const why = MeshError.from(thrown).message;
      throw new MeshError('connect_failed', `the host ${hostname} has no address: ${why}`, { cause: thrown });
    }
  }
}
