// Workloads, indexed by uid, by address, by host name, and, for those of this node, by pod.
import type { SpiffeId, WorkloadUid } from '#shared/ids.ts';
import type { NetworkAddress, Workload } from './model.ts';
import { networkAddress } from './model.ts';

/** A pod as its node knows it: what the CNI agent says, and what xDS workloads are matched against. */
export interface PodIdentity {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export class WorkloadIndex {
  #byUid = new Map<WorkloadUid, Workload>();
  /** In order of arrival; the answer is the highest rank, the latest among equals. */
  #byAddress = new Map<NetworkAddress, Workload[]>();
  #byHostname = new Map<string, Set<WorkloadUid>>();
  #local = new Map<string, Set<Workload>>();
  #node: string;

  /** `node`: the workloads of this node are local; '' makes all of them local. */
  constructor(node: string) {
    this.#node = node;
  }

  get size(): number {
    return this.#byUid.size;
  }

  values(): IterableIterator<Workload> {
    return this.#byUid.values();
  }

  get(uid: WorkloadUid): Workload | undefined {
    return this.#byUid.get(uid);
  }

  /** Host-network workloads share the node's address and are not found by it. */
  byAddress(network: string, ip: string): Workload | undefined {
    const candidates = this.#byAddress.get(networkAddress(network, ip));
    let best: Workload | undefined;
    for (const candidate of candidates ?? []) if (!best || rank(candidate) >= rank(best)) best = candidate;
    return best;
  }

  byHostname(namespace: string, hostname: string): Workload | undefined {
    for (const uid of this.#byHostname.get(`${namespace}/${hostname}`) ?? []) return this.#byUid.get(uid);
    return undefined;
  }

  /** The workload of a pod on this node. */
  localPod(pod: PodIdentity): Workload | undefined {
    for (const workload of this.#local.get(podKey(pod)) ?? []) return workload;
    return undefined;
  }

  /** Identities that this node needs certificates for: those of captured workloads on it. */
  localIdentities(): Set<SpiffeId> {
    const needed = new Set<SpiffeId>();
    for (const workloads of this.#local.values())
      for (const workload of workloads) if (workload.protocol === 'HBONE' || workload.nativeTunnel) needed.add(workload.identity);
    return needed;
  }

  set(workload: Workload): void {
    this.delete(workload.uid);
    this.#byUid.set(workload.uid, workload);
    for (const key of addressesOf(workload)) {
      const list = this.#byAddress.get(key);
      if (list) list.push(workload);
      else this.#byAddress.set(key, [workload]);
    }
    if (workload.hostname !== '') addTo(this.#byHostname, `${workload.namespace}/${workload.hostname}`, workload.uid);
    if (this.#isLocal(workload)) addTo(this.#local, podKey(workload), workload);
  }

  delete(uid: WorkloadUid): Workload | undefined {
    const workload = this.#byUid.get(uid);
    if (!workload) return undefined;
    this.#byUid.delete(uid);
    for (const key of addressesOf(workload)) {
      const left = this.#byAddress.get(key)?.filter((other) => other !== workload) ?? [];
      if (left.length === 0) this.#byAddress.delete(key);
      else this.#byAddress.set(key, left);
    }
    removeFrom(this.#byHostname, `${workload.namespace}/${workload.hostname}`, uid);
    removeFrom(this.#local, podKey(workload), workload);
    return workload;
  }

  #isLocal(workload: Workload): boolean {
    return this.#node === '' || workload.node === this.#node;
  }
}

function podKey({ namespace, serviceAccount, name }: PodIdentity): string {
  return `${namespace}/${serviceAccount}/${name}`;
}

/** Several workloads may claim one address (a WorkloadEntry beside a Pod): captured pods win, then pods, then other captured ones. */
function rank(workload: Workload): number {
  return (workload.uid.includes('//Pod/') ? 2 : 0) + (workload.protocol === 'HBONE' ? 1 : 0);
}

function addressesOf(workload: Workload): NetworkAddress[] {
  return workload.networkMode === 'HostNetwork' ? [] : workload.ips.map((ip) => networkAddress(workload.network, ip));
}

function addTo<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const set = index.get(key);
  if (set) set.add(value);
  else index.set(key, new Set([value]));
}

function removeFrom<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const set = index.get(key);
  if (set?.delete(value) && set.size === 0) index.delete(key);
}
