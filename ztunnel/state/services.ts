// Services, indexed by virtual address, address block and host name, and who serves them. Endpoints come with the workloads and may
// arrive before their service: they are kept by the service's name alone.
import { ipToBytes } from '#shared/address.ts';
import type { NamespacedHostname, WorkloadUid } from '#shared/ids.ts';
import { contains } from './cidr.ts';
import type { NetworkAddress, PortMap, Service, Workload } from './model.ts';
import { networkAddress } from './model.ts';

const NO_ENDPOINTS: ReadonlyMap<WorkloadUid, PortMap> = new Map();

export class ServiceIndex {
  #byKey = new Map<NamespacedHostname, Service>();
  #byVip = new Map<NetworkAddress, Service[]>();
  #byHostname = new Map<string, Service[]>();
  #withCidrs = new Set<Service>();
  #endpoints = new Map<NamespacedHostname, Map<WorkloadUid, PortMap>>();

  get size(): number {
    return this.#byKey.size;
  }

  values(): IterableIterator<Service> {
    return this.#byKey.values();
  }

  get(key: NamespacedHostname): Service | undefined {
    return this.#byKey.get(key);
  }

  /** The service that a client of the namespace means by the address: exact addresses first, then the tightest block. */
  byVip(network: string, ip: string, clientNamespace: string): Service | undefined {
    const exact = prefer(this.#byVip.get(networkAddress(network, ip)) ?? [], clientNamespace);
    return exact ?? this.#byCidr(network, ip, clientNamespace);
  }

  /** The service that a client of the namespace means by the host name. */
  byHostname(hostname: string, clientNamespace: string): Service | undefined {
    return prefer(this.#byHostname.get(hostname) ?? [], clientNamespace);
  }

  /** Every service of the host name, in the order of arrival. */
  named(hostname: string): readonly Service[] {
    return this.#byHostname.get(hostname) ?? [];
  }

  endpoints(key: NamespacedHostname): ReadonlyMap<WorkloadUid, PortMap> {
    return this.#endpoints.get(key) ?? NO_ENDPOINTS;
  }

  set(service: Service): void {
    this.delete(service.key);
    this.#byKey.set(service.key, service);
    for (const vip of service.vips) push(this.#byVip, vip, service);
    push(this.#byHostname, service.hostname, service);
    if (service.cidrVips.length > 0) this.#withCidrs.add(service);
  }

  delete(key: NamespacedHostname): boolean {
    const service = this.#byKey.get(key);
    if (!service) return false;
    this.#byKey.delete(key);
    for (const vip of service.vips) pull(this.#byVip, vip, service);
    pull(this.#byHostname, service.hostname, service);
    this.#withCidrs.delete(service);
    return true;
  }

  addEndpoints(workload: Workload): void {
    for (const [key, ports] of workload.services) {
      const set = this.#endpoints.get(key) ?? new Map<WorkloadUid, PortMap>();
      this.#endpoints.set(key, set.set(workload.uid, ports));
    }
  }

  removeEndpoints(workload: Workload): void {
    for (const key of workload.services.keys()) {
      const set = this.#endpoints.get(key);
      if (set?.delete(workload.uid) && set.size === 0) this.#endpoints.delete(key);
    }
  }

  /** Host names that have endpoints and no service yet, with how many: for the admin page. */
  *staged(): Generator<[NamespacedHostname, ReadonlyMap<WorkloadUid, PortMap>]> {
    for (const entry of this.#endpoints) if (!this.#byKey.has(entry[0])) yield entry;
  }

  #byCidr(network: string, ip: string, clientNamespace: string): Service | undefined {
    if (this.#withCidrs.size === 0) return undefined;
    const bytes = ipToBytes(ip);
    if (!bytes) return undefined;
    let best: { service: Service; rank: number } | undefined;
    for (const service of this.#withCidrs) {
      if (!visible(service, clientNamespace)) continue;
      for (const block of service.cidrVips) {
        const base = ipToBytes(block.ip);
        if (block.network !== network || !base || !contains({ bytes: base, length: block.length }, bytes)) continue;
        const rank = (service.namespace === clientNamespace ? 1024 : 0) + block.length * 2 + (service.canonical ? 1 : 0);
        if (!best || rank > best.rank) best = { service, rank };
      }
    }
    return best?.service;
  }
}

function visible(service: Service, clientNamespace: string): boolean {
  return service.visibility === 'Public' || service.namespace === clientNamespace;
}

/** The client's own namespace, then the canonical one, then the first that came. */
function prefer(services: readonly Service[], clientNamespace: string): Service | undefined {
  const seen = services.filter((service) => visible(service, clientNamespace));
  return seen.find((service) => service.namespace === clientNamespace) ?? seen.find((service) => service.canonical) ?? seen[0];
}

function push<K, V>(index: Map<K, V[]>, key: K, value: V): void {
  const list = index.get(key);
  if (list) list.push(value);
  else index.set(key, [value]);
}

function pull<K, V>(index: Map<K, V[]>, key: K, value: V): void {
  const left = index.get(key)?.filter((other) => other !== value) ?? [];
  if (left.length === 0) index.delete(key);
  else index.set(key, left);
}
