// The rules of any number of policies, indexed so that a connection meets only those that can match it.
import type { Match, Policy } from '../state/model.ts';
import type { Rule } from './compile.ts';
import { compileRules } from './compile.ts';
import type { Slot } from './keys.ts';
import { fields, take } from './keys.ts';
import type { PolicyContext } from './match.ts';
import { ruleMatches } from './match.ts';

interface Entry {
  readonly policy: Policy;
  readonly rule: Rule;
  /** Undefined: in `others`. */
  slots: readonly Slot<Entry>[] | undefined;
}

export class RuleIndex {
  readonly #fields = fields<Entry>();
  /** Rules that no key leads to: for everybody, or for everybody except some. */
  readonly #others: Entry[] = [];
  readonly #byPolicy = new Map<Policy, readonly Entry[]>();

  /** How many policies it holds, rules or not. */
  get size(): number {
    return this.#byPolicy.size;
  }

  add(policy: Policy): void {
    const entries = compileRules(policy).map((rule): Entry => ({ policy, rule, slots: undefined }));
    this.#byPolicy.set(policy, entries);
    for (const entry of entries) {
      entry.slots = this.#place(entry.rule);
      if (entry.slots) for (const { table, length, key } of entry.slots) table.add(length, key, entry);
      else this.#others.push(entry);
    }
  }

  remove(policy: Policy): void {
    for (const entry of this.#byPolicy.get(policy) ?? []) {
      if (entry.slots) for (const { table, length, key } of entry.slots) table.remove(length, key, entry);
      else take(this.#others, entry);
    }
    this.#byPolicy.delete(policy);
  }

  /** A policy with a rule that matches. `asked` hears of every rule that is evaluated. */
  find(
    context: PolicyContext,
    accept: (policy: Policy) => boolean = always,
    asked: (rule: Rule) => void = ignore,
  ): Policy | undefined {
    if (this.#byPolicy.size === 0) return undefined;
    const test = ({ policy, rule }: Entry): boolean => {
      asked(rule);
      return ruleMatches(rule, context) && accept(policy);
    };
    for (const field of this.#fields) {
      const found = field.find(context, test);
      if (found) return found.policy;
    }
    return this.#others.find(test)?.policy;
  }

  /** Every policy with a rule that matches. */
  all(context: PolicyContext): Set<Policy> {
    const found = new Set<Policy>();
    this.find(context, (policy) => {
      found.add(policy);
      return false;
    });
    return found;
  }

  /** The clause that the fewest rules share places with: each of its matches must be found, so it is in a place for each of them. */
  #place(rule: Rule): readonly Slot<Entry>[] | undefined {
    let best: readonly Slot<Entry>[] | undefined;
    let least = Infinity;
    for (const clause of rule) {
      const slots = this.#clauseSlots(clause);
      if (!slots) continue;
      const cost = crowd(slots);
      if (cost < least) {
        best = slots;
        least = cost;
      }
    }
    return best;
  }

  #clauseSlots(clause: readonly Match[]): Slot<Entry>[] | undefined {
    const all: Slot<Entry>[] = [];
    for (const match of clause) {
      const slots = this.#matchSlots(match);
      if (!slots) return undefined;
      all.push(...slots);
    }
    return all;
  }

  #matchSlots(match: Match): Slot<Entry>[] | undefined {
    let best: Slot<Entry>[] | undefined;
    let least = Infinity;
    for (const field of this.#fields) {
      const slots = field.slots(match);
      if (!slots) continue;
      const cost = crowd(slots);
      if (cost < least) {
        best = slots;
        least = cost;
      }
    }
    return best;
  }
}

/** How many rules are in these places. */
function crowd(slots: readonly Slot<Entry>[]): number {
  return slots.reduce((sum, { table, length, key }) => sum + table.count(length, key), 0);
}

const always = (): boolean => true;
const ignore = (): void => undefined;
