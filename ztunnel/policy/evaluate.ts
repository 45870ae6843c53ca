// The verdict of all policies on one connection: any DENY that matches refuses; else, where an ALLOW policy exists, one of them must match.
import type { Policy } from '../state/model.ts';
import { compile } from './compile.ts';
import type { PolicyContext } from './match.ts';
import { matches } from './match.ts';

export type Verdict =
  /** `by`: the ALLOW policy that let it in; undefined when none exists. */
  { readonly allowed: true; readonly by?: Policy } | { readonly allowed: false; readonly reason: string };

export interface Evaluation {
  readonly verdict: Verdict;
  /** What dry-run policies would have done, in words; never part of the verdict. */
  readonly dryRun: readonly string[];
}

const ALLOWED: Verdict = { allowed: true };
const NOTHING: readonly string[] = [];
const OPEN: Evaluation = { verdict: ALLOWED, dryRun: NOTHING };

/** `policies` are those in force for the destination workload (PolicyIndex.forWorkload). */
export function evaluate(policies: readonly Policy[], context: PolicyContext): Evaluation {
  if (policies.length === 0) return OPEN;
  const dryRun = policies.some((policy) => policy.dryRun) ? dryRunNotes(policies, context) : NOTHING;
  return { verdict: enforce(policies, context), dryRun };
}

function enforce(policies: readonly Policy[], context: PolicyContext): Verdict {
  let allowExists = false;
  let allowedBy: Policy | undefined;
  for (const policy of policies) {
    if (policy.dryRun) continue;
    if (policy.action === 'Deny') {
      if (policyMatches(policy, context))
        return { allowed: false, reason: `explicitly denied by: ${policy.namespace}/${policy.name}` };
    } else {
      allowExists = true;
      if (allowedBy === undefined && policyMatches(policy, context)) allowedBy = policy;
    }
  }
  if (!allowExists) return ALLOWED;
  if (allowedBy === undefined) return { allowed: false, reason: 'allow policies exist, but none allowed' };
  return { allowed: true, by: allowedBy };
}

function dryRunNotes(policies: readonly Policy[], context: PolicyContext): string[] {
  const notes: string[] = [];
  const allows = policies.filter((policy) => policy.dryRun && policy.action === 'Allow');
  for (const policy of policies)
    if (policy.dryRun && policy.action === 'Deny' && policyMatches(policy, context))
      notes.push(`dry-run: deny policy match: ${policy.namespace}/${policy.name}`);
  const allowed = allows.find((policy) => policyMatches(policy, context));
  if (allowed) notes.push(`dry-run: allow policy match: ${allowed.namespace}/${allowed.name}`);
  else if (allows.length > 0) notes.push('dry-run: no allow policies match');
  return notes;
}

/** A policy without rules matches nothing, a rule without clauses everything, a clause without matches everything, an empty match nothing. */
export function policyMatches(policy: Policy, context: PolicyContext): boolean {
  return compile(policy).some(context.principal, (rule) =>
    rule.every((clause) => clause.some((match) => matches(match, context))),
  );
}
