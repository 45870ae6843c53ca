// The policies of the mesh, indexed by how they attach: to all workloads, to a namespace, or by name from a workload.
import type { Policy, Workload } from './model.ts';

export class PolicyIndex {
  #byKey = new Map<string, Policy>();
  /** Keys of NAMESPACE policies by namespace, and of GLOBAL ones under ''. */
  #attached = new Map<string, Set<string>>();

  get size(): number {
    return this.#byKey.size;
  }

  values(): IterableIterator<Policy> {
    return this.#byKey.values();
  }

  get(key: string): Policy | undefined {
    return this.#byKey.get(key);
  }

  set(policy: Policy): void {
    this.delete(policy.key);
    this.#byKey.set(policy.key, policy);
    const scope = attachment(policy);
    if (scope === undefined) return;
    const keys = this.#attached.get(scope) ?? new Set();
    this.#attached.set(scope, keys.add(policy.key));
  }

  delete(key: string): boolean {
    const policy = this.#byKey.get(key);
    if (!policy) return false;
    this.#byKey.delete(key);
    const scope = attachment(policy);
    const keys = scope === undefined ? undefined : this.#attached.get(scope);
    if (keys?.delete(key) && keys.size === 0) this.#attached.delete(scope ?? '');
    return true;
  }

  /** Everything in force for connections to the workload. `onUnknown` hears of names that it lists and nobody sent. */
  forWorkload(workload: Workload, onUnknown: (key: string) => void = () => undefined): Policy[] {
    const found: Policy[] = [];
    for (const scope of [workload.namespace, '']) {
      for (const key of this.#attached.get(scope) ?? []) {
        const policy = this.#byKey.get(key);
        if (policy) found.push(policy);
      }
    }
    for (const key of workload.authorizationPolicies) {
      const policy = this.#byKey.get(key);
      if (policy === undefined) onUnknown(key);
      else if (policy.scope === 'WorkloadSelector') found.push(policy);
    }
    return found;
  }
}

function attachment(policy: Policy): string | undefined {
  switch (policy.scope) {
    case 'Global':
      return '';
    case 'Namespace':
      return policy.namespace;
    case 'WorkloadSelector':
      return undefined;
  }
}
