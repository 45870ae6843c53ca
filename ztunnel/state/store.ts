// Everything the control plane told this ztunnel, applied batch by batch. Readers take the narrow views below; nothing but the
// handlers of xDS and of the local file writes.
import { randomInt } from 'node:crypto';
import type { NamespacedHostname } from '#shared/ids.ts';
import { workloadUid } from '#shared/ids.ts';
import type { EncodedBatch } from './encoded.ts';
import { BatchWriter, bytesAt, entriesOf, isServiceAt, keysAt } from './encoded.ts';
import type { Policy, Service, Workload } from './model.ts';
import { Batches } from './places.ts';
import { PolicyIndex } from './policies.ts';
import { ServiceIndex } from './services.ts';
import type { PodIdentity } from './workloads.ts';
import { WorkloadIndex } from './workloads.ts';

export type StateChange =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'service'; readonly service: Service }
  | { readonly kind: 'policy'; readonly policy: Policy }
  /** Workloads and services as they came, checked. */
  | { readonly kind: 'encoded'; readonly batch: EncodedBatch }
  /** Some of what is here, put together anew: nothing of it has changed. */
  | { readonly kind: 'moved'; readonly batch: EncodedBatch }
  /** The name of an Address resource: a workload uid or NAMESPACE/HOSTNAME. */
  | { readonly kind: 'remove-address'; readonly name: string }
  | { readonly kind: 'remove-policy'; readonly key: string };

/** What the path of a connection asks of the mesh's state. */
export interface MeshView {
  readonly workloads: Pick<WorkloadIndex, 'get' | 'byAddress' | 'byHostname'>;
  readonly services: Pick<ServiceIndex, 'get' | 'byVip' | 'byHostname' | 'endpoints'>;
}

/** Bytes that nothing refers to, beyond which what is left of their batches is put together. */
const MAX_DEAD = 4 << 20;
/** Batches; a response makes one. */
const MAX_BATCHES = 1024;

export interface StoreOptions {
  /** Whose node of that name it is; default: that of any cluster. */
  readonly cluster?: string;
  /** Of the hashes in encoded batches: who shares batches shares it. Default: drawn, so that nobody can choose names that collide. */
  readonly seed?: number;
  /** Whether this store puts batches together; its followers are told. Default true. */
  readonly compacts?: boolean;
}

export class MeshStore implements MeshView {
  readonly workloads: WorkloadIndex;
  readonly services: ServiceIndex;
  readonly policies = new PolicyIndex();
  readonly seed: number;
  readonly #compacts: boolean;
  readonly #batches = new Batches();
  /** Beyond which batches are put together. */
  #tolerated = { dead: MAX_DEAD, batches: MAX_BATCHES };
  #listeners = new Set<(changes: readonly StateChange[]) => void>();

  /** `node`: workloads of it are local; '' makes all of them local. */
  constructor(node: string, { cluster, seed = drawSeed(), compacts = true }: StoreOptions = {}) {
    this.seed = seed;
    this.#compacts = compacts;
    this.workloads = new WorkloadIndex({ node, cluster }, seed, this.#batches);
    this.services = new ServiceIndex(this.workloads, seed, this.#batches);
  }

  /** Applies a whole batch, then tells the listeners once. */
  apply(changes: readonly StateChange[]): void {
    this.#change(changes);
    const { dead, batches } = this.#tolerated;
    if (this.#compacts && (this.#batches.count > batches || this.#batches.dead > dead)) this.#compact();
  }

  /** What another store must apply to hold the same. Policies come first: none may be behind the workload that it guards. */
  *snapshot(): Generator<StateChange> {
    for (const policy of this.policies.values()) yield { kind: 'policy', policy };
    const writer = new BatchWriter();
    for (const place of [...this.services.encoded(), ...this.workloads.encoded()]) {
      if ('uid' in place) yield { kind: 'workload', workload: place };
      else if ('key' in place) yield { kind: 'service', service: place };
      else writer.add(bytesAt(place.batch, place.entry), keysAt(place.batch, place.entry));
    }
    for (const batch of writer.take()) yield { kind: 'encoded', batch };
  }

  /** Calls back after each batch; returns the way to stop. */
  onChange(listener: (changes: readonly StateChange[]) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** The workload of a pod on this node, waiting until the control plane sends it; undefined when the signal comes first. */
  async waitForLocal(pod: PodIdentity, signal: AbortSignal): Promise<Workload | undefined> {
    const found = this.workloads.localPod(pod);
    if (found || signal.aborted) return found;
    return await new Promise((resolve) => {
      const finish = (workload: Workload | undefined): void => {
        stop();
        signal.removeEventListener('abort', onAbort);
        resolve(workload);
      };
      const onAbort = (): void => finish(undefined);
      const stop = this.onChange(() => {
        const workload = this.workloads.localPod(pod);
        if (workload) finish(workload);
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #change(changes: readonly StateChange[]): void {
    for (const change of changes) this.#applyOne(change);
    for (const listener of this.#listeners) listener(changes);
  }

  #applyOne(change: StateChange): void {
    switch (change.kind) {
      case 'workload':
        this.workloads.set(change.workload);
        return;
      case 'service':
        this.services.set(change.service);
        return;
      case 'policy':
        this.policies.set(change.policy);
        return;
      case 'encoded':
        for (const entry of entriesOf(change.batch)) this.#indexOf(change.batch, entry).setEncoded(change.batch, entry);
        return;
      case 'moved':
        for (const entry of entriesOf(change.batch)) this.#indexOf(change.batch, entry).move(change.batch, entry);
        return;
      case 'remove-address':
        if (!this.workloads.delete(workloadUid(change.name))) this.services.delete(change.name as NamespacedHostname);
        return;
      case 'remove-policy':
        this.policies.delete(change.key);
        return;
    }
  }

  #indexOf(batch: EncodedBatch, entry: number): WorkloadIndex | ServiceIndex {
    return isServiceAt(batch, entry) ? this.services : this.workloads;
  }

  /** What is left of sparse and small batches goes into one, and their memory with them. */
  #compact(): void {
    const sparse = this.#batches.sparse();
    const writer = new BatchWriter();
    for (const index of [this.services, this.workloads])
      for (const place of index.encoded())
        if ('batch' in place && sparse.has(place.batch))
          writer.add(bytesAt(place.batch, place.entry), keysAt(place.batch, place.entry));
    const moved = writer.take().map((batch): StateChange => ({ kind: 'moved', batch }));
    if (moved.length > 0) this.#change(moved);
    // What is left lies in batches of which most is in use: it is no reason to look at all of them again with each change.
    const { dead, count } = this.#batches;
    this.#tolerated = { dead: dead + MAX_DEAD, batches: Math.max(MAX_BATCHES, 2 * count) };
  }
}

function drawSeed(): number {
  return randomInt(2 ** 31);
}
