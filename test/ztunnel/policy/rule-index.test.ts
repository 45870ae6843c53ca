// The index gives the verdicts of the API's own words, whatever the policies, the order they come in and those that went again; and it
// asks few rules of many.
import fc from 'fast-check';
import t from 'tap';
import type { SpiffeId } from '#shared/ids.ts';
import { evaluate } from '../../../ztunnel/policy/evaluate.ts';
import type { PolicyContext } from '../../../ztunnel/policy/match.ts';
import { matches, policyContext } from '../../../ztunnel/policy/match.ts';
import { PolicyGroup } from '../../../ztunnel/policy/policy-group.ts';
import { RuleIndex } from '../../../ztunnel/policy/rule-index.ts';
import type { Match, Policy, StringMatch } from '../../../ztunnel/state/model.ts';
import { aCidr, aMatch, aPolicy, exact } from '../../fixtures/mesh.ts';

const PRINCIPALS = ['td/ns/a/sa/one', 'td/ns/a/sa/two', 'td/ns/b/sa/one'];
const BLOCKS = ['10.0.0.1/32', '10.0.0.0/9', '0.0.0.0/0', '10.0.0.0/31', 'fd00::1/128', 'fd00::/13', '::/0'].map(aCidr);

const few = <T>(value: fc.Arbitrary<T>, maxLength = 2): fc.Arbitrary<T[]> =>
  // Most fields of most matches are unset.
  fc.oneof({ weight: 3, arbitrary: fc.constant<T[]>([]) }, { weight: 1, arbitrary: fc.array(value, { maxLength }) });
const text = (...parts: string[]): fc.Arbitrary<StringMatch> =>
  fc.oneof(
    fc.record({
      kind: fc.constantFrom('exact' as const, 'prefix' as const, 'suffix' as const),
      value: fc.constantFrom(...parts),
    }),
    fc.constantFrom<StringMatch>({ kind: 'presence' }, { kind: 'never' }),
  );
const principal = text(...PRINCIPALS, 'td/ns/a', '/one', '');
const namespace = text('a', 'b', '');
const account = fc.record({ namespace: fc.constantFrom('a', 'b'), serviceAccount: fc.constantFrom('one', 'two') });
const block = fc.constantFrom(...BLOCKS);
const port = fc.constantFrom(80, 81);
const match: fc.Arbitrary<Match> = fc.record({
  namespaces: few(namespace),
  notNamespaces: few(namespace, 1),
  principals: few(principal),
  notPrincipals: few(principal, 1),
  serviceAccounts: few(account),
  notServiceAccounts: few(account, 1),
  sourceIps: few(block),
  notSourceIps: few(block, 1),
  destinationIps: few(block),
  notDestinationIps: few(block, 1),
  destinationPorts: few(port),
  notDestinationPorts: few(port, 1),
});
const rules = fc.array(fc.array(fc.array(match, { maxLength: 3 }), { maxLength: 3 }), { maxLength: 3 });
const policy = fc
  .record({ action: fc.constantFrom('Allow' as const, 'Deny' as const), dryRun: fc.nat(4).map((n) => n === 0), rules })
  .map((init) => ({ ...init, removed: init.rules.length === 1 && init.action === 'Deny' }));
const context = fc
  .record({
    who: fc.constantFrom(undefined, ...PRINCIPALS),
    source: fc.constantFrom('10.0.0.1', '10.200.0.1', 'fd00::1', 'fe80::1'),
    destination: fc.constantFrom('10.0.0.1', 'fd00::1'),
    port,
  })
  .map(({ who, source, destination, port: to }) =>
    policyContext({
      source: { ip: source, port: 1 },
      destination: { ip: destination, port: to },
      identity: who === undefined ? undefined : (`spiffe://${who}` as SpiffeId),
    }),
  );

/** The words of the API: no index, nothing left out. */
function policyMatches({ rules: all }: Policy, subject: PolicyContext): boolean {
  const isSet = (one: Match): boolean => Object.values(one).some((list: readonly unknown[]) => list.length > 0);
  return all.some((rule) =>
    rule.every((clause) => clause.length === 0 || clause.some((one) => isSet(one) && matches(one, subject))),
  );
}

function plainly(policies: readonly Policy[], subject: PolicyContext): boolean {
  const enforced = policies.filter(({ dryRun }) => !dryRun);
  const [deny, allow] = [enforced.filter(({ action }) => action === 'Deny'), enforced.filter(({ action }) => action === 'Allow')];
  if (deny.some((one) => policyMatches(one, subject))) return false;
  return allow.length === 0 || allow.some((one) => policyMatches(one, subject));
}

t.test('verdicts and dry-run notes are those of every policy asked in turn', async (t) => {
  let denied = 0;
  fc.assert(
    fc.property(fc.array(policy, { maxLength: 8 }), fc.array(context, { minLength: 1, maxLength: 4 }), (inits, subjects) => {
      const all = inits.map((init, index) => ({ policy: aPolicy(`p${index}`, init), removed: init.removed }));
      const group = new PolicyGroup(all.map((one) => one.policy));
      for (const one of all) if (one.removed) group.remove(one.policy);
      const left = all.flatMap((one) => (one.removed ? [] : [one.policy]));
      return subjects.every((subject) => {
        const { verdict, dryRun } = evaluate({ groups: [group] }, subject);
        if (!verdict.allowed) denied += 1;
        const wouldDeny = left.filter((one) => one.dryRun && one.action === 'Deny' && policyMatches(one, subject));
        return (
          verdict.allowed === plainly(left, subject) &&
          (!verdict.by || (left.includes(verdict.by) && policyMatches(verdict.by, subject))) &&
          wouldDeny.length === dryRun.filter((note) => note.startsWith('dry-run: deny policy match')).length
        );
      });
    }),
    { numRuns: 4000 },
  );
  t.ok(denied > 400, `${denied} were refused`);
});

const MANY = 10_000;
const me = policyContext({
  source: { ip: '10.0.0.1', port: 1 },
  destination: { ip: '10.0.0.2', port: 8080 },
  identity: 'spiffe://td/ns/a/sa/one' as SpiffeId,
});
const number = (index: number): string => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
const kinds: [name: string, matchOf: (index: number) => Match][] = [
  ['principals', (index) => aMatch({ principals: [exact(`td/ns/x/sa/${index}`)] })],
  ['prefixes of principals', (index) => aMatch({ principals: [{ kind: 'prefix', value: `td/ns/x${index}/` }] })],
  ['suffixes of principals', (index) => aMatch({ principals: [{ kind: 'suffix', value: `/sa/x${index}` }] })],
  ['service accounts', (index) => aMatch({ serviceAccounts: [{ namespace: 'a', serviceAccount: `x${index}` }] })],
  ['namespaces', (index) => aMatch({ namespaces: [exact(`x${index}`)] })],
  ['source blocks', (index) => aMatch({ sourceIps: [aCidr(`${number(index + 256)}/${24 + (index % 9)}`)] })],
  ['destination blocks', (index) => aMatch({ destinationIps: [aCidr(`${number(index + 256)}/${24 + (index % 9)}`)] })],
  ['ports', (index) => aMatch({ destinationPorts: [10_000 + index] })],
  ['one namespace, many ports', (index) => aMatch({ namespaces: [exact('a')], destinationPorts: [10_000 + index] })],
  ['one port, many principals', (index) => aMatch({ principals: [exact(`td/ns/x/sa/${index}`)], destinationPorts: [8080] })],
];

for (const [name, matchOf] of kinds)
  t.test(`of ${MANY} rules by ${name} hardly any is evaluated`, async (t) => {
    const index = new RuleIndex();
    const policies = Array.from({ length: MANY }, (_, at) => aPolicy(`p${at}`, { action: 'Deny', matches: [matchOf(at)] }));
    for (const one of policies) index.add(one);
    let asked = 0;
    const count = (): void => void (asked += 1);
    t.equal(index.find(me, undefined, count), undefined);
    t.ok(asked <= 8, `${asked} evaluated`);
    for (const one of policies.slice(1)) index.remove(one);
    t.equal(index.size, 1);
  });

t.test('rules for everybody except some are evaluated one by one', async (t) => {
  const index = new RuleIndex();
  for (let at = 0; at < 100; at++)
    index.add(aPolicy(`p${at}`, { action: 'Deny', matches: [aMatch({ notPrincipals: [exact('td/ns/a/sa/one')] })] }));
  let asked = 0;
  t.equal(
    index.find(me, undefined, () => void (asked += 1)),
    undefined,
  );
  t.equal(asked, 100);
});
