// Other names of Address resources, for proxies that ask on demand: `NETWORK/IP` of a workload, `NETWORK/VIP` or
// `NAMESPACE/HOSTNAME` of a service. A service's answer brings its workloads along. Built when first asked.
import { ipFromBytes } from '#shared/address.ts';
import type { Service, Workload } from '#shared/gen/istio/workload/workload_pb.ts';

export class AddressIndex {
  #workloads: ReadonlyMap<string, Workload>;
  #services: ReadonlyMap<string, Service>;
  #index: { byAlias: Map<string, string[]>; byService: Map<string, string[]> } | undefined;

  constructor(workloads: ReadonlyMap<string, Workload>, services: ReadonlyMap<string, Service>) {
    this.#workloads = workloads;
    this.#services = services;
  }

  /** Names of resources; the name itself when it has no other meaning. */
  find(name: string): readonly string[] {
    if (this.#workloads.has(name)) return [name];
    this.#index ??= this.#build();
    const { byAlias, byService } = this.#index;
    const names = byAlias.get(name) ?? [name];
    return names.flatMap((each) => (this.#services.has(each) ? [each, ...(byService.get(each) ?? [])] : [each]));
  }

  #build(): { byAlias: Map<string, string[]>; byService: Map<string, string[]> } {
    const byAlias = new Map<string, string[]>();
    const byService = new Map<string, string[]>();
    const add = (map: Map<string, string[]>, key: string, value: string): void => {
      const list = map.get(key);
      if (list) list.push(value);
      else map.set(key, [value]);
    };
    for (const [uid, { network, addresses, services }] of this.#workloads) {
      for (const address of addresses) add(byAlias, `${network}/${ipFromBytes(address) ?? ''}`, uid);
      for (const service of Object.keys(services)) add(byService, service, uid);
    }
    for (const [name, { addresses }] of this.#services) {
      for (const { network, address } of addresses) add(byAlias, `${network}/${ipFromBytes(address) ?? ''}`, name);
    }
    return { byAlias, byService };
  }
}
