// The rules of a policy as they are evaluated: what can never match is gone, and what says nothing with it.
import type { Match, Policy } from '../state/model.ts';

/** Clauses (all), each of matches (any); none: everything. No clause of it is empty, and no match of it sets nothing. */
export type Rule = readonly (readonly Match[])[];

export function compileRules(policy: Policy): Rule[] {
  return policy.rules.flatMap((rule) => compileRule(rule) ?? []);
}

/** Undefined when it can never match: a match that sets nothing hits nothing. */
function compileRule(rule: Rule): [Rule] | undefined {
  const clauses = rule.filter((clause) => clause.length > 0).map((clause) => clause.filter((match) => !isEmpty(match)));
  return clauses.some((clause) => clause.length === 0) ? undefined : [clauses];
}

function isEmpty(match: Match): boolean {
  return Object.values(match).every((list: readonly unknown[]) => list.length === 0);
}
