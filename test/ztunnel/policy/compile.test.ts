import fc from 'fast-check';
import t from 'tap';
import { policyMatches } from '../../../ztunnel/policy/evaluate.ts';
import { matches, policyContext } from '../../../ztunnel/policy/match.ts';
import type { Match, Policy, StringMatch } from '../../../ztunnel/state/model.ts';
import type { SpiffeId } from '#shared/ids.ts';

const PRINCIPALS = ['td/ns/a/sa/one', 'td/ns/a/sa/two', 'td/ns/b/sa/one'];
const EMPTY: Match = {
  namespaces: [],
  notNamespaces: [],
  principals: [],
  notPrincipals: [],
  serviceAccounts: [],
  notServiceAccounts: [],
  sourceIps: [],
  notSourceIps: [],
  destinationIps: [],
  notDestinationIps: [],
  destinationPorts: [],
  notDestinationPorts: [],
};

const principal: fc.Arbitrary<StringMatch> = fc.oneof(
  fc.record({ kind: fc.constant('exact' as const), value: fc.constantFrom(...PRINCIPALS) }),
  fc.record({ kind: fc.constantFrom('prefix' as const, 'suffix' as const), value: fc.constantFrom('td/ns/a', '/one') }),
  fc.constantFrom<StringMatch>({ kind: 'presence' }, { kind: 'never' }),
);
const match: fc.Arbitrary<Match> = fc
  .record({
    principals: fc.array(principal, { maxLength: 2 }),
    notPrincipals: fc.array(principal, { maxLength: 1 }),
    destinationPorts: fc.array(fc.constantFrom(80, 81), { maxLength: 1 }),
    namespaces: fc.array(fc.constant<StringMatch>({ kind: 'exact', value: 'a' }), { maxLength: 1 }),
  })
  .map((some) => ({ ...EMPTY, ...some }));
const rules = fc.array(fc.array(fc.array(match, { maxLength: 3 }), { maxLength: 3 }), { maxLength: 4 });

/** The rule of the API, word by word: no index, nothing left out. */
function plainly(policy: Policy, context: Parameters<typeof matches>[1]): boolean {
  const isSet = (one: Match): boolean => Object.values(one).some((list: readonly unknown[]) => list.length > 0);
  return policy.rules.some((rule) =>
    rule.every((clause) => clause.length === 0 || clause.some((one) => isSet(one) && matches(one, context))),
  );
}

t.test('a compiled policy says what its rules say, for every caller', async (t) => {
  let hits = 0;
  fc.assert(
    fc.property(rules, fc.constantFrom(undefined, ...PRINCIPALS), fc.constantFrom(80, 81), (some, who, port) => {
      const policy: Policy = {
        key: 'ns/p',
        name: 'p',
        namespace: 'ns',
        scope: 'Namespace',
        action: 'Allow',
        dryRun: false,
        rules: some,
      };
      const context = policyContext({
        source: { ip: '10.0.0.1', port: 1 },
        destination: { ip: '10.0.0.2', port },
        identity: who === undefined ? undefined : (`spiffe://${who}` as SpiffeId),
      });
      const verdict = policyMatches(policy, context);
      hits += Number(verdict);
      return verdict === plainly(policy, context);
    }),
    { numRuns: 3000 },
  );
  t.ok(hits > 300, `${hits} of 3000 matched`);
});
