// Services, found by name, virtual address, address block and host name. Their endpoints come with the workloads and may arrive before them.
import { MeshError } from '#shared/errors.ts';
import type { NamespacedHostname } from '#shared/ids.ts';
import { CidrVips } from './cidr-vips.ts';
import type { AddressKeys, EncodedBatch } from './encoded.ts';
import { addHashes, bytesAt, decodeAddress, hostAt, idAt, isPinnedAt, serviceKeys, textHash } from './encoded.ts';
import { HashIndex } from './hash-index.ts';
import type { Service } from './model.ts';
import { networkAddress } from './model.ts';
import { Batches, Places } from './places.ts';
import type { Endpoints, WorkloadIndex } from './workloads.ts';

export class ServiceIndex {
  readonly #places: Places<Service>;
  readonly #byKey = new HashIndex();
  readonly #byVip = new HashIndex();
  readonly #byHostname = new HashIndex();
  readonly #cidrVips = new CidrVips();
  readonly #workloads: WorkloadIndex;
  readonly #seed: number;

  /** `workloads`: who serves them. */
  constructor(workloads: WorkloadIndex, seed = 0, batches = new Batches()) {
    this.#workloads = workloads;
    this.#seed = seed;
    this.#places = new Places(batches, (bytes) => serviceOf(bytes));
  }

  get size(): number {
    return this.#places.size;
  }

  *values(): Generator<Service> {
    for (const place of this.#places.all()) yield this.#places.at(place);
  }

  get(key: NamespacedHostname): Service | undefined {
    const place = this.#placeOf(key);
    return place === undefined ? undefined : this.#places.at(place);
  }

  /** The service that a client of the namespace means by the address: exact addresses first, then the tightest block. */
  byVip(network: string, ip: string, clientNamespace: string): Service | undefined {
    const vip = networkAddress(network, ip);
    const exact = this.#prefer(this.#byVip, vip, clientNamespace, ({ vips }) => vips.includes(vip));
    return exact ?? this.#cidrVips.find(network, ip, clientNamespace);
  }

  /** The service that a client of the namespace means by the host name. */
  byHostname(hostname: string, clientNamespace: string): Service | undefined {
    return this.#prefer(this.#byHostname, hostname, clientNamespace, (service) => service.hostname === hostname);
  }

  /** Every service of the host name, in the order of arrival. */
  named(hostname: string): readonly Service[] {
    return this.#byHostname
      .find(textHash(hostname, this.#seed))
      .map((place) => this.#places.at(place))
      .filter((service) => service.hostname === hostname);
  }

  endpoints(key: NamespacedHostname): Endpoints {
    return this.#workloads.endpoints(key);
  }

  set(service: Service): void {
    this.delete(service.key);
    this.#add(this.#places.keep(service), serviceKeys(service, this.#seed));
    this.#cidrVips.add(service);
  }

  setEncoded(batch: EncodedBatch, entry: number): void {
    const [id, pinned] = [idAt(batch, entry), isPinnedAt(batch, entry)];
    if (this.#byKey.has(id)) this.delete(serviceAt(batch, entry).key);
    const place = this.#places.keepEncoded(batch, entry, pinned);
    this.#byKey.add(id, place);
    this.#byHostname.add(hostAt(batch, entry), place);
    addHashes(batch, entry, 'addresses', this.#byVip, place);
    if (pinned) this.#cidrVips.add(this.#places.at(place));
  }

  /** The entry is the new place of a service that is here. */
  move(batch: EncodedBatch, entry: number): void {
    const place = this.#placeOf(serviceAt(batch, entry).key);
    if (place !== undefined && this.#places.encodedAt(place)) this.#places.move(place, batch, entry);
  }

  delete(key: NamespacedHostname): boolean {
    const place = this.#placeOf(key);
    if (place === undefined) return false;
    const service = this.#places.at(place);
    const { id, host, addresses } = serviceKeys(service, this.#seed);
    this.#byKey.remove(id, place);
    this.#byHostname.remove(host, place);
    for (const address of addresses) this.#byVip.remove(address, place);
    this.#cidrVips.delete(service);
    this.#places.release(place);
    return true;
  }

  /** What is encoded, by batch, and what is not. */
  *encoded(): Generator<{ batch: EncodedBatch; entry: number } | Service> {
    for (const place of this.#places.all()) yield this.#places.encodedAt(place) ?? this.#places.at(place);
  }

  /** Services that have endpoints and did not come yet: for the admin page. */
  *staged(): Generator<[NamespacedHostname, Endpoints]> {
    const told = new Set<NamespacedHostname>();
    for (const { services } of this.#workloads.values())
      for (const key of services.keys()) {
        if (told.has(key) || this.get(key)) continue;
        told.add(key);
        yield [key, this.endpoints(key)];
      }
  }

  #add(place: number, { id, host, addresses }: AddressKeys): void {
    this.#byKey.add(id, place);
    this.#byHostname.add(host, place);
    for (const address of addresses) this.#byVip.add(address, place);
  }

  #placeOf(key: NamespacedHostname): number | undefined {
    for (const place of this.#byKey.find(textHash(key, this.#seed))) if (this.#places.at(place).key === key) return place;
    return undefined;
  }

  /** The client's own namespace, then the canonical one, then the first that came. */
  #prefer(index: HashIndex, text: string, clientNamespace: string, isMeant: (service: Service) => boolean): Service | undefined {
    let canonical: Service | undefined;
    let first: Service | undefined;
    for (const place of index.find(textHash(text, this.#seed))) {
      const service = this.#places.at(place);
      if (!isMeant(service) || !visible(service, clientNamespace)) continue;
      if (service.namespace === clientNamespace) return service;
      if (service.canonical) canonical ??= service;
      first ??= service;
    }
    return canonical ?? first;
  }
}

function visible(service: Service, clientNamespace: string): boolean {
  return service.visibility === 'Public' || service.namespace === clientNamespace;
}

export function serviceAt(batch: EncodedBatch, entry: number): Service {
  return serviceOf(bytesAt(batch, entry));
}

/** The bytes were checked when they came. */
function serviceOf(bytes: Uint8Array): Service {
  const decoded = decodeAddress(bytes);
  if (decoded.kind === 'service') return decoded.service;
  throw new MeshError('internal', 'a workload is where a service should be');
}
