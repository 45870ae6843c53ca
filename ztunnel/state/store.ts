// Everything the control plane told this ztunnel, applied batch by batch. Readers take the narrow views below; nothing but the
// handlers of xDS and of the local file writes.
import type { NamespacedHostname, WorkloadUid } from '#shared/ids.ts';
import { workloadUid } from '#shared/ids.ts';
import type { Policy, Service, Workload } from './model.ts';
import { PolicyIndex } from './policies.ts';
import { ServiceIndex } from './services.ts';
import type { PodIdentity } from './workloads.ts';
import { WorkloadIndex } from './workloads.ts';

export type StateChange =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'service'; readonly service: Service }
  | { readonly kind: 'policy'; readonly policy: Policy }
  /** The name of an Address resource: a workload uid or NAMESPACE/HOSTNAME. */
  | { readonly kind: 'remove-address'; readonly name: string }
  | { readonly kind: 'remove-policy'; readonly key: string };

/** What the path of a connection asks of the mesh's state. */
export interface MeshView {
  readonly workloads: Pick<WorkloadIndex, 'get' | 'byAddress' | 'byHostname'>;
  readonly services: Pick<ServiceIndex, 'get' | 'byVip' | 'byHostname' | 'endpoints'>;
}

export class MeshStore implements MeshView {
  readonly workloads: WorkloadIndex;
  readonly services = new ServiceIndex();
  readonly policies = new PolicyIndex();
  #listeners = new Set<(changes: readonly StateChange[]) => void>();

  /** `node`: workloads of it are local; '' makes all of them local. */
  constructor(node: string) {
    this.workloads = new WorkloadIndex(node);
  }

  /** Applies a whole batch, then tells the listeners once. */
  apply(changes: readonly StateChange[]): void {
    for (const change of changes) this.#applyOne(change);
    for (const listener of this.#listeners) listener(changes);
  }

  /** What another store must apply to hold the same. Policies come first: none may be behind the workload that it guards. */
  *snapshot(): Generator<StateChange> {
    for (const policy of this.policies.values()) yield { kind: 'policy', policy };
    for (const service of this.services.values()) yield { kind: 'service', service };
    for (const workload of this.workloads.values()) yield { kind: 'workload', workload };
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

  #applyOne(change: StateChange): void {
    switch (change.kind) {
      case 'workload':
        this.#removeWorkload(change.workload.uid);
        this.workloads.set(change.workload);
        this.services.addEndpoints(change.workload);
        return;
      case 'service':
        this.services.set(change.service);
        return;
      case 'policy':
        this.policies.set(change.policy);
        return;
      case 'remove-address':
        if (!this.#removeWorkload(workloadUid(change.name))) this.services.delete(change.name as NamespacedHostname);
        return;
      case 'remove-policy':
        this.policies.delete(change.key);
        return;
    }
  }

  #removeWorkload(uid: WorkloadUid): boolean {
    const gone = this.workloads.delete(uid);
    if (gone) this.services.removeEndpoints(gone);
    return gone !== undefined;
  }
}
