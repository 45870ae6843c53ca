// A policy as connections ask it: rules that name their callers are found by the caller's name, so that what a policy costs depends on the
// rules that can match and not on how many there are.
import type { Match, Policy } from '../state/model.ts';

/** Clauses (all), each of matches (any); none: everything. No match of it is empty. */
export type Rule = readonly (readonly Match[])[];

export class CompiledPolicy {
  /** Rules that some clause of allows for certain principals only. */
  readonly #byPrincipal = new Map<string, Rule[]>();
  readonly #others: Rule[] = [];

  constructor(policy: Policy) {
    for (const rule of policy.rules.flatMap((rule) => compileRule(rule) ?? [])) {
      const names = principalsOf(rule);
      if (!names) this.#others.push(rule);
      for (const name of names ?? []) {
        const rules = this.#byPrincipal.get(name);
        if (rules) rules.push(rule);
        else this.#byPrincipal.set(name, [rule]);
      }
    }
  }

  /** Whether `test` holds for a rule that may concern the principal. */
  some(principal: string | undefined, test: (rule: Rule) => boolean): boolean {
    const named = principal === undefined ? undefined : this.#byPrincipal.get(principal);
    return named?.some(test) === true || this.#others.some(test);
  }
}

const compiled = new WeakMap<Policy, CompiledPolicy>();

/** Made once for each policy object, which never changes. */
export function compile(policy: Policy): CompiledPolicy {
  let found = compiled.get(policy);
  if (!found) {
    found = new CompiledPolicy(policy);
    compiled.set(policy, found);
  }
  return found;
}

/** Undefined when it can never match: a match that sets nothing hits nothing. */
function compileRule(rule: Rule): [Rule] | undefined {
  const clauses = rule.filter((clause) => clause.length > 0).map((clause) => clause.filter((match) => !isEmpty(match)));
  return clauses.some((clause) => clause.length === 0) ? undefined : [clauses];
}

/** The only principals that the rule can match, when one of its clauses says so by their full names. */
function principalsOf(rule: Rule): Set<string> | undefined {
  for (const clause of rule) {
    const names = clause.map(namedBy);
    if (names.every((list) => list !== undefined)) return new Set(names.flat());
  }
  return undefined;
}

function namedBy({ principals }: Match): string[] | undefined {
  const names = principals.flatMap((match) => (match.kind === 'exact' ? [match.value] : []));
  return names.length > 0 && names.length === principals.length ? names : undefined;
}

function isEmpty(match: Match): boolean {
  return Object.values(match).every((list: readonly unknown[]) => list.length === 0);
}
