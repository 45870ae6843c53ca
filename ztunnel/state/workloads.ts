// Workloads, found by uid, by address, by host name, by the services that they serve, and, for those of this node, by pod.
import { MeshError } from '#shared/errors.ts';
import type { NamespacedHostname, SpiffeId, WorkloadUid } from '#shared/ids.ts';
import type { AddressKeys, EncodedBatch } from './encoded.ts';
import { addHashes, bytesAt, decodeAddress, hostAt, idAt, isPinnedAt, textHash, workloadKeys } from './encoded.ts';
import { HashIndex } from './hash-index.ts';
import type { PortMap, Workload } from './model.ts';
import { networkAddress } from './model.ts';
import { Batches, Places } from './places.ts';

/** A pod as its node knows it: what the CNI agent says, and what xDS workloads are matched against. */
export interface PodIdentity {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Who serves a service, and its ports of their own. */
export interface Endpoints extends Iterable<[WorkloadUid, PortMap]> {
  readonly size: number;
  keys(): Iterable<WorkloadUid>;
  has(uid: WorkloadUid): boolean;
  get(uid: WorkloadUid): PortMap | undefined;
}

/** Whose pods are local. A mesh of several clusters may have equal names of nodes and pods in each. */
export interface Home {
  /** '': every node. */
  readonly node: string;
  /** Undefined: every cluster. */
  readonly cluster?: string | undefined;
}

export class WorkloadIndex {
  readonly #places: Places<Workload>;
  readonly #byUid = new HashIndex();
  readonly #byAddress = new HashIndex();
  readonly #byHostname = new HashIndex();
  readonly #byService = new HashIndex();
  readonly #local = new Map<string, Set<Workload>>();
  readonly #home: Home;
  readonly #seed: number;

  /** `seed`: of hashes, in encoded batches too. */
  constructor(home: Home, seed = 0, batches = new Batches()) {
    this.#home = home;
    this.#seed = seed;
    this.#places = new Places(batches, (bytes) => workloadOf(bytes));
  }

  get size(): number {
    return this.#places.size;
  }

  *values(): Generator<Workload> {
    for (const place of this.#places.all()) yield this.#places.at(place);
  }

  get(uid: WorkloadUid): Workload | undefined {
    const place = this.#placeOf(uid);
    return place === undefined ? undefined : this.#places.at(place);
  }

  /** The highest rank, the latest among equals. Host-network workloads share the node's address and are not found by it. */
  byAddress(network: string, ip: string): Workload | undefined {
    let best: Workload | undefined;
    for (const place of this.#byAddress.find(this.#hash(networkAddress(network, ip)))) {
      const candidate = this.#places.at(place);
      if (candidate.network !== network || !candidate.ips.includes(ip)) continue;
      if (!best || rank(candidate) >= rank(best)) best = candidate;
    }
    return best;
  }

  byHostname(namespace: string, hostname: string): Workload | undefined {
    for (const place of this.#byHostname.find(this.#hash(`${namespace}/${hostname}`))) {
      const candidate = this.#places.at(place);
      if (candidate.namespace === namespace && candidate.hostname === hostname) return candidate;
    }
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

  /** Who serves the service, whether that is known or not. */
  endpoints(key: NamespacedHostname): Endpoints {
    return new ServiceEndpoints(this, this.#places, this.#byService.find(this.#hash(key)), key);
  }

  isLocal({ node, clusterId }: Pick<Workload, 'node' | 'clusterId'>): boolean {
    const home = this.#home;
    return (home.node === '' || node === home.node) && (home.cluster === undefined || clusterId === home.cluster);
  }

  set(workload: Workload): void {
    this.delete(workload.uid);
    const local = this.isLocal(workload);
    this.#add(this.#places.keep(workload), workloadKeys(workload, local, this.#seed));
    if (local) this.#addLocal(workload);
  }

  setEncoded(batch: EncodedBatch, entry: number): void {
    const [id, host, pinned] = [idAt(batch, entry), hostAt(batch, entry), isPinnedAt(batch, entry)];
    // Only what shares the hash can be the same one.
    if (this.#byUid.has(id)) this.delete(workloadAt(batch, entry).uid);
    const place = this.#places.keepEncoded(batch, entry, pinned);
    this.#byUid.add(id, place);
    if (host !== 0) this.#byHostname.add(host, place);
    addHashes(batch, entry, 'addresses', this.#byAddress, place);
    addHashes(batch, entry, 'services', this.#byService, place);
    if (pinned) this.#addLocal(this.#places.at(place));
  }

  /** The entry is the new place of a workload that is here. */
  move(batch: EncodedBatch, entry: number): void {
    const place = this.#placeOf(workloadAt(batch, entry).uid);
    if (place !== undefined && this.#places.encodedAt(place)) this.#places.move(place, batch, entry);
  }

  delete(uid: WorkloadUid): Workload | undefined {
    const place = this.#placeOf(uid);
    if (place === undefined) return undefined;
    const workload = this.#places.at(place);
    this.#remove(place, workloadKeys(workload, false, this.#seed));
    if (this.isLocal(workload)) removeFrom(this.#local, podKey(workload), workload);
    this.#places.release(place);
    return workload;
  }

  /** What is encoded, by batch, and what is not. */
  *encoded(): Generator<{ batch: EncodedBatch; entry: number } | Workload> {
    for (const place of this.#places.all()) yield this.#places.encodedAt(place) ?? this.#places.at(place);
  }

  #hash(text: string): number {
    return textHash(text, this.#seed);
  }

  #placeOf(uid: WorkloadUid): number | undefined {
    for (const place of this.#byUid.find(this.#hash(uid))) if (this.#places.at(place).uid === uid) return place;
    return undefined;
  }

  #add(place: number, { id, host, addresses, services }: AddressKeys): void {
    this.#byUid.add(id, place);
    if (host !== 0) this.#byHostname.add(host, place);
    for (const address of addresses) this.#byAddress.add(address, place);
    for (const service of services) this.#byService.add(service, place);
  }

  #remove(place: number, { id, host, addresses, services }: AddressKeys): void {
    this.#byUid.remove(id, place);
    if (host !== 0) this.#byHostname.remove(host, place);
    for (const address of addresses) this.#byAddress.remove(address, place);
    for (const service of services) this.#byService.remove(service, place);
  }

  #addLocal(workload: Workload): void {
    const key = podKey(workload);
    const set = this.#local.get(key);
    if (set) set.add(workload);
    else this.#local.set(key, new Set([workload]));
  }
}

/** Looked at place by place, as it is asked. */
class ServiceEndpoints implements Endpoints {
  readonly #workloads: Pick<WorkloadIndex, 'get'>;
  readonly #places: Places<Workload>;
  readonly #numbers: readonly number[];
  readonly #key: NamespacedHostname;

  constructor(
    workloads: Pick<WorkloadIndex, 'get'>,
    places: Places<Workload>,
    numbers: readonly number[],
    key: NamespacedHostname,
  ) {
    this.#workloads = workloads;
    this.#places = places;
    this.#numbers = numbers;
    this.#key = key;
  }

  get size(): number {
    let size = 0;
    for (const _ of this) size += 1;
    return size;
  }

  *keys(): Generator<WorkloadUid> {
    for (const [uid] of this) yield uid;
  }

  has(uid: WorkloadUid): boolean {
    return this.get(uid) !== undefined;
  }

  get(uid: WorkloadUid): PortMap | undefined {
    return this.#workloads.get(uid)?.services.get(this.#key);
  }

  *[Symbol.iterator](): Generator<[WorkloadUid, PortMap]> {
    for (const place of this.#numbers) {
      const { uid, services } = this.#places.at(place);
      const ports = services.get(this.#key);
      if (ports) yield [uid, ports];
    }
  }
}

export function workloadAt(batch: EncodedBatch, entry: number): Workload {
  return workloadOf(bytesAt(batch, entry));
}

/** The bytes were checked when they came. */
function workloadOf(bytes: Uint8Array): Workload {
  const decoded = decodeAddress(bytes);
  if (decoded.kind === 'workload') return decoded.workload;
  throw new MeshError('internal', 'a service is where a workload should be');
}

function podKey({ namespace, serviceAccount, name }: PodIdentity): string {
  return `${namespace}/${serviceAccount}/${name}`;
}

/** Several workloads may claim one address (a WorkloadEntry beside a Pod): captured pods win, then pods, then other captured ones. */
function rank(workload: Workload): number {
  return (workload.uid.includes('//Pod/') ? 2 : 0) + (workload.protocol === 'HBONE' ? 1 : 0);
}

function removeFrom<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const set = index.get(key);
  if (set?.delete(value) && set.size === 0) index.delete(key);
}
