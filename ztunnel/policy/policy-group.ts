// Policies that attach in the same way (all of a namespace, the global ones, those that a workload lists), by what they do.
import type { Policy } from '../state/model.ts';
import { RuleIndex } from './rule-index.ts';

export class PolicyGroup {
  readonly deny = new RuleIndex();
  readonly allow = new RuleIndex();
  readonly dryDeny = new RuleIndex();
  readonly dryAllow = new RuleIndex();

  constructor(policies: Iterable<Policy> = []) {
    for (const policy of policies) this.add(policy);
  }

  get size(): number {
    return this.deny.size + this.allow.size + this.dryDeny.size + this.dryAllow.size;
  }

  add(policy: Policy): void {
    this.#indexOf(policy).add(policy);
  }

  remove(policy: Policy): void {
    this.#indexOf(policy).remove(policy);
  }

  #indexOf({ action, dryRun }: Policy): RuleIndex {
    if (action === 'Deny') return dryRun ? this.dryDeny : this.deny;
    return dryRun ? this.dryAllow : this.allow;
  }
}

/** What is in force for a workload. A change of it is another object: what was decided by the same one needs not be decided again. */
export interface PoliciesInForce {
  readonly groups: readonly PolicyGroup[];
  /** Names that the workload lists and nobody sent. */
  readonly unknown: readonly string[];
}
