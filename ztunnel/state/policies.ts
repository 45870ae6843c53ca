// The policies of the mesh, indexed by how they attach: to all workloads, to a namespace, or by name from a workload.
import type { PoliciesInForce } from '../policy/policy-group.ts';
import { PolicyGroup } from '../policy/policy-group.ts';
import type { Policy, Workload } from './model.ts';

/** Different lists of workloads that are remembered; beyond it all are made again. */
const MAX_VIEWS = 4096;

export class PolicyIndex {
  #byKey = new Map<string, Policy>();
  #byNamespace = new Map<string, PolicyGroup>();
  readonly #global = new PolicyGroup();
  /** What forWorkload() has answered, by namespace and listed names; forgotten where a policy of it changes. */
  #views = new Map<string, View>();
  #version = 0;

  get size(): number {
    return this.#byKey.size;
  }

  /** Another number after every change. */
  get version(): number {
    return this.#version;
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
    this.#changed(policy);
    if (policy.scope === 'Global') this.#global.add(policy);
    if (policy.scope !== 'Namespace') return;
    const group = this.#byNamespace.get(policy.namespace);
    if (group) group.add(policy);
    else this.#byNamespace.set(policy.namespace, new PolicyGroup([policy]));
  }

  delete(key: string): boolean {
    const policy = this.#byKey.get(key);
    if (!policy) return false;
    this.#byKey.delete(key);
    this.#changed(policy);
    if (policy.scope === 'Global') this.#global.remove(policy);
    if (policy.scope !== 'Namespace') return true;
    const group = this.#byNamespace.get(policy.namespace);
    group?.remove(policy);
    if (group?.size === 0) this.#byNamespace.delete(policy.namespace);
    return true;
  }

  /** Everything in force for connections to the workload: the same object until some of it changes. */
  forWorkload({
    namespace,
    authorizationPolicies: listed,
  }: Pick<Workload, 'namespace' | 'authorizationPolicies'>): PoliciesInForce {
    const key = listed.length === 0 ? namespace : `${namespace}\0${listed.join('\0')}`;
    const known = this.#views.get(key);
    if (known) return known;
    if (this.#views.size >= MAX_VIEWS) this.#views.clear();
    const view = this.#view(namespace, listed);
    this.#views.set(key, view);
    return view;
  }

  #view(namespace: string, listed: readonly string[]): View {
    const unknown: string[] = [];
    const selected: Policy[] = [];
    for (const key of new Set(listed)) {
      const policy = this.#byKey.get(key);
      if (policy === undefined) unknown.push(key);
      else if (policy.scope === 'WorkloadSelector') selected.push(policy);
    }
    const own = this.#byNamespace.get(namespace);
    const groups = [...(own ? [own] : []), this.#global, new PolicyGroup(selected)].filter(({ size }) => size > 0);
    return { namespace, listed: new Set(listed), groups, unknown };
  }

  #changed(policy: Policy): void {
    this.#version += 1;
    for (const [key, view] of this.#views) if (concerns(policy, view)) this.#views.delete(key);
  }
}

interface View extends PoliciesInForce {
  readonly namespace: string;
  readonly listed: ReadonlySet<string>;
}

function concerns({ key, scope, namespace }: Policy, view: View): boolean {
  return scope === 'Global' || (scope === 'Namespace' && namespace === view.namespace) || view.listed.has(key);
}
