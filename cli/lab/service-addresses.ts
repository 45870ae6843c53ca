// Hands out cluster addresses to Services that ask for none, as the API server does, and keeps them for as long as the Service exists.
import { MeshError } from '#shared/errors.ts';
import type { Service } from '#shared/kube/kinds.ts';
import { objectKey } from '#shared/kube/object.ts';
import type { ObjectKey } from '#shared/kube/object.ts';
import { DNS_VIP } from './plan.ts';

/** The first address handed out is 10.96.1.0: the lower ones are for Services that name their own. */
const FIRST = 256;
const LAST = 65_534;

export class ServiceAddresses {
  #given = new Map<ObjectKey, string>();
  #next = FIRST;

  /** Pairs to write over the Services: those that are new, and undefined for those that went. */
  update(services: readonly Service[]): [ObjectKey, string | undefined][] {
    const changes: [ObjectKey, string | undefined][] = [];
    const present = new Set(services.map(objectKey));
    for (const key of this.#given.keys())
      if (!present.has(key)) {
        this.#given.delete(key);
        changes.push([key, undefined]);
      }
    const taken = new Set([DNS_VIP, ...this.#given.values(), ...services.map(({ spec }) => spec?.clusterIP ?? '')]);
    for (const service of services) {
      const key = objectKey(service);
      if (!wantsAddress(service) || this.#given.has(key)) continue;
      const address = this.#free(taken);
      taken.add(address);
      this.#given.set(key, address);
      changes.push([key, address]);
    }
    return changes;
  }

  #free(taken: ReadonlySet<string>): string {
    for (let tries = 0; tries < LAST; tries++) {
      const address = `10.96.${this.#next >> 8}.${this.#next & 0xff}`;
      this.#next = this.#next >= LAST ? FIRST : this.#next + 1;
      if (!taken.has(address)) return address;
    }
    throw new MeshError('limit_reached', 'no service address is left in 10.96.0.0/16');
  }
}

function wantsAddress({ spec }: Service): boolean {
  return spec?.type !== 'ExternalName' && (spec?.clusterIP === undefined || spec.clusterIP === '');
}
