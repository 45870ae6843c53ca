// State that is asked for when it is needed (XDS_ON_DEMAND): names of Address resources, each subscribed to once, and who waits for what
// they stand for. A resource is heard of under all of its names: its own, those that the server lists beside it, and its addresses.
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { NamespacedHostname } from '#shared/ids.ts';
import type { NamedResource } from '#shared/xds/resource-type.ts';
import type { Subscription } from '#shared/xds/subscription.ts';
import type { DecodedAddress } from './encoded.ts';
import { decodeAddress } from './encoded.ts';
import type { NetworkAddress } from './model.ts';
import { networkAddress } from './model.ts';

/** What makes state be fetched. */
export interface Demand {
  /**
   * Resolves when the state holds what the control plane has under the name (a workload's uid, NETWORK/IP, NAMESPACE/HOSTNAME), be it
   * nothing. Rejects with `unknown_destination` when it does not answer in time, `limit_reached` when too much was asked for.
   */
  fetch(name: string): Promise<void>;
  /**
   * Asks again who serves a service that is held, by its NAMESPACE/HOSTNAME or NETWORK/IP, at most every ten seconds: istiod (1.32) does not
   * tell of a workload that has joined it since. Rejects as `fetch` does.
   */
  renew(service: NamespacedHostname, address: NetworkAddress): Promise<void>;
}

export interface OnDemandOptions {
  readonly clock: Clock;
  /** How long an answer is waited for, ms; default 5000. */
  readonly deadline?: number;
  /** How long "there is no such thing" is believed, ms; default 10,000. Not every server tells when there is one later. */
  readonly missingFor?: number;
  /** Names asked for at a time; default 20,000. Those that stand for nothing make room for others. */
  readonly maxNames?: number;
}

interface Asked {
  readonly heard: PromiseWithResolvers<void>;
  state: 'asked' | 'held' | 'missing';
  /** When it is to be asked again. */
  until: number;
}

export class OnDemand implements Demand {
  readonly #options: Required<OnDemandOptions>;
  #subscription: Pick<Subscription, 'ask' | 'unsubscribe'> | undefined;
  /** In the order in which they were asked for. */
  readonly #asked = new Map<string, Asked>();
  /** By which names what is held was asked for. */
  readonly #askedAs = new Map<string, string[]>();

  constructor(options: OnDemandOptions) {
    this.#options = { deadline: 5000, missingFor: 10_000, maxNames: 20_000, ...options };
  }

  /** Where names are asked for; until then nothing can be. */
  use(subscription: Pick<Subscription, 'ask' | 'unsubscribe'>): void {
    this.#subscription = subscription;
    if (this.#asked.size > 0) subscription.ask(...this.#asked.keys());
  }

  async fetch(name: string): Promise<void> {
    const known = this.#asked.get(name);
    if (known?.state === 'held') return;
    if (known?.state === 'missing' && known.until > this.#options.clock.monotonic()) return;
    await this.#answered(name, known?.state === 'asked' ? known : this.#ask(name));
  }

  async renew(service: NamespacedHostname, address: NetworkAddress): Promise<void> {
    // What is asked for again is taken back first. By a name that it is not held by, that does not take the service away meanwhile.
    const name = this.#asked.has(service) && !this.#asked.has(address) ? address : service;
    const known = this.#asked.get(name);
    if (known && known.state !== 'asked' && known.until > this.#options.clock.monotonic()) return;
    await this.#answered(name, known?.state === 'asked' ? known : this.#ask(name));
  }

  /** What a response brought and took away, once it is in the state. */
  heard(set: readonly NamedResource<Uint8Array | undefined>[], removed: readonly string[]): void {
    for (const name of removed) this.#gone(name);
    for (const resource of set) {
      const names = namesOf(resource).filter((name) => this.#asked.has(name));
      if (names.length === 0) continue;
      this.#askedAs.set(resource.name, names);
      for (const name of names) this.#settle(name, 'held');
    }
  }

  #ask(name: string): Asked {
    if (this.#asked.size >= this.#options.maxNames && !this.#makeRoom())
      throw new MeshError(
        'limit_reached',
        `${name} is not asked for: the control plane was asked for ${this.#asked.size} addresses`,
      );
    const asked: Asked = { heard: Promise.withResolvers(), state: 'asked', until: 0 };
    this.#asked.delete(name);
    this.#asked.set(name, asked);
    this.#subscription?.ask(name);
    return asked;
  }

  async #answered(name: string, { heard }: Asked): Promise<void> {
    const { clock, deadline } = this.#options;
    const late = Promise.withResolvers<never>();
    const timer = clock.after(deadline, () =>
      late.reject(
        new MeshError(
          'unknown_destination',
          `the control plane did not say within ${deadline} ms what ${name} is (XDS_ON_DEMAND)`,
        ),
      ),
    );
    try {
      await Promise.race([heard.promise, late.promise]);
    } finally {
      timer.cancel();
    }
  }

  #settle(name: string, state: 'held' | 'missing'): void {
    const asked = this.#asked.get(name);
    if (!asked) return;
    asked.state = state;
    asked.until = this.#options.clock.monotonic() + this.#options.missingFor;
    asked.heard.resolve();
  }

  /** Nothing has the name; what it was also known by may be something else by now. */
  #gone(name: string): void {
    this.#settle(name, 'missing');
    const others = this.#askedAs.get(name)?.filter((other) => other !== name) ?? [];
    this.#askedAs.delete(name);
    if (others.length > 0) this.#forget(others);
  }

  #makeRoom(): boolean {
    for (const [name, { state }] of this.#asked) {
      if (state !== 'missing') continue;
      this.#forget([name]);
      return true;
    }
    return false;
  }

  #forget(names: readonly string[]): void {
    for (const name of names) this.#asked.delete(name);
    this.#subscription?.unsubscribe(...names);
  }
}

function namesOf({ name, aliases, resource }: NamedResource<Uint8Array | undefined>): string[] {
  return [...new Set([name, ...(aliases ?? []), ...(resource ? addressesOf(decodeAddress(resource)) : [])])];
}

function addressesOf(address: DecodedAddress): readonly string[] {
  if (address.kind === 'service') return address.service.vips;
  return address.workload.ips.map((ip) => networkAddress(address.workload.network, ip));
}
