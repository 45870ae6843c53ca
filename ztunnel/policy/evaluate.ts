// The verdict of all policies on one connection: any DENY that matches refuses; else, where an ALLOW policy exists, one of them must match.
import type { Policy } from '../state/model.ts';
import type { PolicyContext } from './match.ts';
import type { PoliciesInForce, PolicyGroup } from './policy-group.ts';

export type Verdict =
  /** `by`: the ALLOW policy that let it in; undefined when none exists. */
  | { readonly allowed: true; readonly by?: Policy }
  /** `by`: the DENY policy that refused it; undefined when no ALLOW policy matched. */
  | { readonly allowed: false; readonly reason: string; readonly by?: Policy };

export interface Evaluation {
  readonly verdict: Verdict;
  /** What dry-run policies would have done, in words; never part of the verdict. */
  readonly dryRun: readonly string[];
}

const ALLOWED: Verdict = { allowed: true };
const NONE_ALLOWED: Verdict = { allowed: false, reason: 'allow policies exist, but none allowed' };
const NOTHING: readonly string[] = [];
const OPEN: Evaluation = { verdict: ALLOWED, dryRun: NOTHING };

/** `policies` are those in force for the destination workload (PolicyIndex.forWorkload). */
export function evaluate({ groups }: Pick<PoliciesInForce, 'groups'>, context: PolicyContext): Evaluation {
  if (groups.length === 0) return OPEN;
  const dryRun = groups.some(({ dryDeny, dryAllow }) => dryDeny.size + dryAllow.size > 0);
  return { verdict: enforce(groups, context), dryRun: dryRun ? dryRunNotes(groups, context) : NOTHING };
}

function enforce(groups: readonly PolicyGroup[], context: PolicyContext): Verdict {
  for (const { deny } of groups) {
    const by = deny.find(context);
    if (by) return { allowed: false, by, reason: `explicitly denied by: ${by.namespace}/${by.name}` };
  }
  let exists = false;
  for (const { allow } of groups) {
    if (allow.size === 0) continue;
    exists = true;
    const by = allow.find(context);
    if (by) return { allowed: true, by };
  }
  return exists ? NONE_ALLOWED : ALLOWED;
}

function dryRunNotes(groups: readonly PolicyGroup[], context: PolicyContext): string[] {
  const notes: string[] = [];
  let exists = false;
  let allowed: Policy | undefined;
  for (const { dryDeny, dryAllow } of groups) {
    for (const { namespace, name } of dryDeny.all(context)) notes.push(`dry-run: deny policy match: ${namespace}/${name}`);
    exists ||= dryAllow.size > 0;
    allowed ??= dryAllow.find(context);
  }
  if (allowed) notes.push(`dry-run: allow policy match: ${allowed.namespace}/${allowed.name}`);
  else if (exists) notes.push('dry-run: no allow policies match');
  return notes;
}
