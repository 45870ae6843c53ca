import t from 'tap';
import type { SpiffeId } from '#shared/ids.ts';
import { spiffeId } from '#shared/ids.ts';
import type { Match, Policy } from '../../../ztunnel/state/model.ts';
import { compileRules } from '../../../ztunnel/policy/compile.ts';
import { evaluate } from '../../../ztunnel/policy/evaluate.ts';
import { policyContext, ruleMatches } from '../../../ztunnel/policy/match.ts';
import type { PolicyContext } from '../../../ztunnel/policy/match.ts';
import { PolicyGroup } from '../../../ztunnel/policy/policy-group.ts';
import { aCidr, aMatch, aPolicy, exact, presence } from '../../fixtures/mesh.ts';

const web = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' });

function connection(identity: SpiffeId | undefined = web) {
  return policyContext({ source: { ip: '10.0.0.1', port: 40_000 }, destination: { ip: '10.0.0.2', port: 8080 }, identity });
}

const plaintext = policyContext({
  source: { ip: '10.0.0.1', port: 40_000 },
  destination: { ip: '10.0.0.2', port: 8080 },
  identity: undefined,
});

const inForce = (...policies: Policy[]) => ({ groups: [new PolicyGroup(policies)] });

function allowed(policies: Policy[], context = connection()): boolean {
  return evaluate(inForce(...policies), context).verdict.allowed;
}

function policyMatches(policy: Policy, context: PolicyContext): boolean {
  return compileRules(policy).some((rule) => ruleMatches(rule, context));
}

t.test('the order: deny, then allow where one exists', async (t) => {
  const all = aMatch({ destinationPorts: [8080] });
  const other = aMatch({ destinationPorts: [1] });
  t.ok(allowed([]), 'nothing in force');
  t.notOk(allowed([aPolicy('d', { action: 'Deny', matches: [all] }), aPolicy('a', { matches: [all] })]), 'deny wins');
  t.notOk(allowed([aPolicy('a', { matches: [all] }), aPolicy('d', { action: 'Deny', matches: [all] })]), 'whatever the order');
  t.ok(allowed([aPolicy('d', { action: 'Deny', matches: [other] })]), 'only a deny that does not match');
  t.notOk(allowed([aPolicy('a', { matches: [other] })]), 'an allow that does not match');
  t.ok(allowed([aPolicy('a', { matches: [other] }), aPolicy('b', { matches: [all] })]), 'any allow is enough');
  t.notOk(allowed([aPolicy('empty')]), 'an allow without rules denies all');
  const denial = evaluate(inForce(aPolicy('d', { action: 'Deny', matches: [all] })), connection()).verdict;
  t.match(denial, { allowed: false, reason: 'explicitly denied by: shop/d' });
});

t.test('empties', async (t) => {
  t.notOk(policyMatches(aPolicy('p', { rules: [] }), connection()), 'no rules: never');
  t.ok(policyMatches(aPolicy('p', { rules: [[]] }), connection()), 'a rule without clauses: always');
  t.ok(policyMatches(aPolicy('p', { rules: [[[]]] }), connection()), 'a clause without matches: always');
  t.notOk(policyMatches(aPolicy('p', { rules: [[[aMatch()]]] }), connection()), 'a match without fields: never');
});

t.test('rules are any, clauses all, matches any, fields all, values any', async (t) => {
  const yes = aMatch({ destinationPorts: [1, 8080] });
  const no = aMatch({ destinationPorts: [1] });
  t.ok(policyMatches(aPolicy('p', { rules: [[[no]], [[yes]]] }), connection()));
  t.notOk(policyMatches(aPolicy('p', { rules: [[[yes], [no]]] }), connection()));
  t.ok(policyMatches(aPolicy('p', { rules: [[[no, yes]]] }), connection()));
  t.notOk(
    policyMatches(aPolicy('p', { matches: [aMatch({ destinationPorts: [8080], namespaces: [exact('other')] })] }), connection()),
  );
});

const cases: [name: string, match: Partial<Match>, withIdentity: boolean, without: boolean][] = [
  ['principal', { principals: [exact('cluster.local/ns/shop/sa/web')] }, true, false],
  ['principal of another trust domain', { principals: [exact('other/ns/shop/sa/web')] }, false, false],
  ['any principal', { principals: [presence] }, true, false],
  ['no principal (STRICT)', { notPrincipals: [presence] }, false, true],
  ['principal prefix', { principals: [{ kind: 'prefix', value: 'cluster.local/ns/shop/' }] }, true, false],
  ['namespace', { namespaces: [exact('shop')] }, true, false],
  ['namespace, empty suffix', { namespaces: [{ kind: 'suffix', value: '' }] }, true, true],
  ['any namespace', { namespaces: [presence] }, true, false],
  ['not that namespace', { notNamespaces: [exact('shop')] }, false, true],
  ['service account', { serviceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }] }, true, false],
  ['another service account', { serviceAccounts: [{ namespace: 'shop', serviceAccount: 'cart' }] }, false, false],
  ['not the service account', { notServiceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }] }, false, true],
  ['source block', { sourceIps: [aCidr('10.0.0.0/31')] }, true, true],
  ['source block of the other family', { sourceIps: [aCidr('::/0')] }, false, false],
  ['not the source', { notSourceIps: [aCidr('10.0.0.1/32')] }, false, false],
  ['destination block', { destinationIps: [aCidr('10.0.0.2/32')] }, true, true],
  ['everything', { destinationIps: [aCidr('0.0.0.0/0')] }, true, true],
  ['not the port', { notDestinationPorts: [8080] }, false, false],
  ['a match of no known type', { principals: [{ kind: 'never' }] }, false, false],
];

for (const [name, match, withIdentity, without] of cases) {
  t.test(`match: ${name}`, async (t) => {
    const policy = aPolicy('p', { matches: [aMatch(match)] });
    t.equal(policyMatches(policy, connection()), withIdentity, 'with the identity');
    t.equal(policyMatches(policy, plaintext), without, 'in the clear');
  });
}

t.test('dry run never affects the verdict, and tells', async (t) => {
  const deny = aPolicy('d', { action: 'Deny', dryRun: true, matches: [aMatch({ destinationPorts: [8080] })] });
  const allow = aPolicy('a', { dryRun: true });
  const { verdict, dryRun } = evaluate(inForce(deny, allow), connection());
  t.equal(verdict.allowed, true);
  t.strictSame(dryRun, ['dry-run: deny policy match: shop/d', 'dry-run: no allow policies match']);
});

t.test('a service account is meant whatever its trust domain, a principal with its own', async (t) => {
  const abroad = connection(spiffeId({ trustDomain: 'elsewhere', namespace: 'shop', serviceAccount: 'web' }));
  const own = { serviceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }] };
  t.ok(allowed([aPolicy('a', { matches: [aMatch(own)] })], abroad));
  t.notOk(allowed([aPolicy('d', { action: 'Deny', matches: [aMatch(own)] })], abroad));
  const others = { notServiceAccounts: own.serviceAccounts };
  t.notOk(allowed([aPolicy('a', { matches: [aMatch(others)] })], abroad), 'nor is it one of the others');
  t.notOk(allowed([aPolicy('a', { matches: [aMatch({ principals: [exact('cluster.local/ns/shop/sa/web')] })] })], abroad));
  t.ok(allowed([aPolicy('a', { matches: [aMatch({ principals: [exact('elsewhere/ns/shop/sa/web')] })] })], abroad));
});
