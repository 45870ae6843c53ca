// Other names of Address resources, for proxies that ask on demand: `NETWORK/IP` of a workload, `NETWORK/VIP` or
// `NAMESPACE/HOSTNAME` of a service. A service's answer brings its workloads along, and what runs on the proxy's own node comes unasked
// (facts: control plane 2.4). Built when first asked.
import { ipFromBytes } from '#shared/address.ts';
import type { Service, Workload } from '#shared/gen/istio/workload/workload_pb.ts';
import type { ResourceNames } from './resource-set.ts';

interface Index {
  readonly byAlias: Map<string, string[]>;
  readonly byService: Map<string, string[]>;
  readonly byNode: Map<string, string[]>;
}

export class AddressIndex implements ResourceNames {
  #workloads: ReadonlyMap<string, Workload>;
  #services: ReadonlyMap<string, Service>;
  #built: Index | undefined;

  constructor(workloads: ReadonlyMap<string, Workload>, services: ReadonlyMap<string, Service>) {
    this.#workloads = workloads;
    this.#services = services;
  }

  /** Names of resources; the name itself when it has no other meaning. */
  find(name: string): readonly string[] {
    if (this.#workloads.has(name)) return [name];
    const { byAlias, byService } = this.#index;
    const names = byAlias.get(name) ?? [name];
    return names.flatMap((each) => (this.#services.has(each) ? [each, ...(byService.get(each) ?? [])] : [each]));
  }

  /** UIDs of the workloads of a Kubernetes node. */
  ofNode(node: string): readonly string[] {
    return this.#index.byNode.get(node) ?? [];
  }

  get #index(): Index {
    return (this.#built ??= this.#build());
  }

  #build(): Index {
    const byAlias = new Map<string, string[]>();
    const byService = new Map<string, string[]>();
    const byNode = new Map<string, string[]>();
    const add = (map: Map<string, string[]>, key: string, value: string): void => {
      const list = map.get(key);
      if (list) list.push(value);
      else map.set(key, [value]);
    };
    for (const [uid, { network, addresses, services, node }] of this.#workloads) {
      for (const address of addresses) add(byAlias, `${network}/${ipFromBytes(address) ?? ''}`, uid);
      for (const service of Object.keys(services)) add(byService, service, uid);
      if (node !== '') add(byNode, node, uid);
    }
    for (const [name, { addresses }] of this.#services) {
      for (const { network, address } of addresses) add(byAlias, `${network}/${ipFromBytes(address) ?? ''}`, name);
    }
    return { byAlias, byService, byNode };
  }
}
