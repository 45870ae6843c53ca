// AuthorizationPolicies from their YAML form to the verdict: translation to Envoy RBAC and our reading of it in one go.
import { test } from 'tap';
import { rbacRules } from '../../../controlplane/translate/envoy/rbac.ts';
import type { ObjectFault } from '#shared/kube/object.ts';
import type { AuthorizationPolicy, AuthorizationPolicySpec, PolicyRule } from '#shared/kube/istio-api.ts';
import { readRbac } from '../../../waypoint/filters/rbac.ts';
import { Headers } from '../../../waypoint/http/request.ts';
import { Path } from '../../../waypoint/xds/strict.ts';
import { aPolicy } from '../../controlplane/translate/envoy/mesh.ts';

interface Request {
  peer?: string;
  ip?: string;
  port?: number;
  method?: string;
  path?: string;
  host?: string;
  headers?: Record<string, string | string[]>;
}

/** Whether the policies let the request through, and what translation had to report. */
function verdict(policies: AuthorizationPolicy[], request: Request, layer: 'http' | 'tcp' = 'http'): boolean {
  const checks = rbacRules(policies, layer, () => undefined).map((rules) => readRbac(rules, new Path()));
  const {
    peer = 'spiffe://cluster.local/ns/shop/sa/client',
    ip = '10.1.2.3',
    port = 80,
    method = 'GET',
    path = '/',
    host = 'echo',
    headers = {},
  } = request;
  const connection = { peer, local: '', remote: { ip, port: 1 }, destination: { ip: '10.96.0.1', port } };
  const list = new Headers(Object.entries(headers).flatMap(([name, values]) => [values].flat().map((value) => [name, value])));
  const head =
    layer === 'tcp' ? undefined : { method, path, authority: host, scheme: 'http', protocol: 'HTTP/1.1' as const, headers: list };
  return checks.every((check) => check({ connection, head }).allowed);
}

const allow = (...rules: PolicyRule[]): AuthorizationPolicy[] => [aPolicy('p', { rules })];
const deny = (...rules: PolicyRule[]): AuthorizationPolicy[] => [aPolicy('p', { action: 'DENY', rules })];
const source = (value: NonNullable<NonNullable<PolicyRule['from']>[0]['source']>): PolicyRule => ({ from: [{ source: value }] });
const operation = (value: NonNullable<NonNullable<PolicyRule['to']>[0]['operation']>): PolicyRule => ({
  to: [{ operation: value }],
});

test('each field, what it allows and what not', async (t) => {
  const cases: [string, PolicyRule, Request, boolean][] = [
    ['principal', source({ principals: ['cluster.local/ns/shop/sa/client'] }), {}, true],
    ['other principal', source({ principals: ['cluster.local/ns/shop/sa/cli'] }), {}, false],
    ['principal prefix', source({ principals: ['cluster.local/ns/shop/*'] }), {}, true],
    ['principal suffix', source({ principals: ['*/sa/client'] }), {}, true],
    ['any principal', source({ principals: ['*'] }), {}, true],
    ['any principal of nobody', source({ principals: ['*'] }), { peer: '' }, false],
    ['not principal', source({ notPrincipals: ['cluster.local/ns/shop/sa/client'] }), {}, false],
    ['namespace', source({ namespaces: ['shop'] }), {}, true],
    ['namespace is no prefix', source({ namespaces: ['sho'] }), {}, false],
    ['namespace with a star', source({ namespaces: ['sh*'] }), {}, true],
    ['service account of the own namespace', source({ serviceAccounts: ['client'] }), {}, true],
    ['service account of another', source({ serviceAccounts: ['front/client'] }), {}, false],
    ['address block', source({ ipBlocks: ['10.1.0.0/16'] }), {}, true],
    ['other address block', source({ ipBlocks: ['10.2.0.0/16', '192.168.1.1'] }), {}, false],
    ['block with odd bits', source({ ipBlocks: ['10.1.2.0/23'] }), {}, true],
    ['not address block', source({ notIpBlocks: ['10.1.2.3'] }), {}, false],
    ['method', operation({ methods: ['GET', 'HEAD'] }), {}, true],
    ['other method', operation({ methods: ['GET'] }), { method: 'POST' }, false],
    ['not method', operation({ notMethods: ['DELETE'] }), { method: 'DELETE' }, false],
    ['exact path ignores the query', operation({ paths: ['/a'] }), { path: '/a?b=c' }, true],
    ['path prefix', operation({ paths: ['/a/*'] }), { path: '/a/b' }, true],
    ['path suffix', operation({ paths: ['*.html'] }), { path: '/x/y.html' }, true],
    ['one segment', operation({ paths: ['/a/{*}/c'] }), { path: '/a/b/c' }, true],
    ['not two segments', operation({ paths: ['/a/{*}/c'] }), { path: '/a/b/b/c' }, false],
    ['any segments', operation({ paths: ['/a/{**}'] }), { path: '/a/b/b/c' }, true],
    ['host without case', operation({ hosts: ['ECHO'] }), {}, true],
    ['port', operation({ ports: ['80'] }), {}, true],
    ['other port', operation({ ports: ['81'] }), {}, false],
    ['header present', { when: [{ key: 'request.headers[X-Token]', values: ['*'] }] }, { headers: { 'x-token': 'a' } }, true],
    ['header missing', { when: [{ key: 'request.headers[x-token]', values: ['*'] }] }, {}, false],
    [
      'header value',
      { when: [{ key: 'request.headers[x-token]', notValues: ['bad'] }] },
      { headers: { 'x-token': 'bad' } },
      false,
    ],
    ['source.ip', { when: [{ key: 'source.ip', values: ['10.1.2.3'] }] }, {}, true],
    ['destination.port', { when: [{ key: 'destination.port', values: ['443'] }] }, {}, false],
    ['all parts must hold', { ...source({ namespaces: ['shop'] }), ...operation({ methods: ['PUT'] }) }, {}, false],
    ['empty rule', {}, {}, true],
  ];
  for (const [name, rule, request, allowed] of cases) {
    t.equal(verdict(allow(rule), request), allowed, `ALLOW ${name}`);
    t.equal(verdict(deny(rule), request), !allowed, `DENY ${name}`);
  }
});

test('a policy on a header sees each of its values, however often it is sent', async (t) => {
  const when = (...values: string[]): PolicyRule => ({ when: [{ key: 'request.headers[x-token]', values }] });
  const unless = (...notValues: string[]): PolicyRule => ({ when: [{ key: 'request.headers[x-token]', notValues }] });
  const cases: [PolicyRule, string[], boolean][] = [
    [when('no'), ['no', 'yes'], true],
    [when('no'), ['yes', 'no'], true],
    [when('no'), ['no', 'no'], true],
    [when('no'), ['', 'no'], true],
    [when('no'), ['yes', 'yes'], false],
    [when('no'), ['yes,no'], false],
    [when('yes,no'), ['yes', 'no'], false],
    [when('yes,no'), ['yes,no'], true],
    [when('no*'), ['yes', 'nothing'], true],
    [when('*no'), ['not so: no', 'yes'], true],
    [when('*'), ['', ''], true],
    [unless('no'), ['no', 'yes'], false],
    [unless('no'), ['yes', 'no'], false],
    [unless('no'), ['no', 'no'], false],
    [unless('no'), ['yes', 'yes'], true],
    [unless('*'), ['yes', 'yes'], false],
    [unless('no'), [], true],
  ];
  for (const [rule, values, matches] of cases) {
    const what = `${JSON.stringify(rule.when)} ${JSON.stringify(values)}`;
    t.equal(verdict(allow(rule), { headers: { 'x-token': values } }), matches, `ALLOW ${what}`);
    t.equal(verdict(deny(rule), { headers: { 'x-token': values } }), !matches, `DENY ${what}`);
  }
  const cookie: PolicyRule = { when: [{ key: 'request.headers[cookie]', values: ['a=1'] }] };
  t.equal(verdict(deny(cookie), { headers: { cookie: ['b=2', 'a=1'] } }), false, 'cookies in several fields');
});

test('DENY comes before ALLOW, any ALLOW is enough, none denies', async (t) => {
  const both = [
    ...deny(operation({ methods: ['DELETE'] })),
    aPolicy('q', { rules: [source({ namespaces: ['shop'] })] }),
    aPolicy('r', { rules: [source({ namespaces: ['front'] })] }),
  ];
  t.equal(verdict(both, {}), true);
  t.equal(verdict(both, { method: 'DELETE' }), false);
  t.equal(verdict(both, { peer: 'spiffe://cluster.local/ns/front/sa/x' }), true);
  t.equal(verdict(both, { peer: 'spiffe://cluster.local/ns/back/sa/x' }), false);
  t.equal(verdict([aPolicy('nothing', {})], {}), false, 'an ALLOW policy without rules');
  t.equal(verdict([aPolicy('nothing', { action: 'DENY' })], {}), true, 'a DENY policy without rules');
  t.equal(verdict([], {}), true, 'no policy');
});

test('what cannot be checked never opens a door, and is said', async (t) => {
  const faultsOf = (spec: AuthorizationPolicySpec, layer: 'http' | 'tcp'): ObjectFault[] => {
    const faults: ObjectFault[] = [];
    rbacRules([aPolicy('p', spec)], layer, (fault) => void faults.push(fault));
    return faults;
  };
  const jwt = source({ requestPrincipals: ['*'] });
  t.equal(verdict(allow(jwt), {}), false);
  t.equal(verdict(deny(jwt), {}), false);
  t.match(faultsOf({ rules: [jwt] }, 'http'), [
    { object: 'AuthorizationPolicy/shop/p', field: 'spec.rules[0]', reason: /JWT.*allows nothing/u },
  ]);
  const nothing = [source({}), source({ principals: [] }), operation({}), { when: [{ key: 'source.ip' }] }, { from: [{}] }];
  for (const rule of nothing) t.equal(verdict(allow(rule), {}), false, JSON.stringify(rule));
  t.match(faultsOf({ rules: [source({})] }, 'http'), [{ reason: /says nothing.*allows nothing/u }]);
  const methods = operation({ methods: ['GET'] });
  t.equal(verdict(allow(methods), {}, 'tcp'), false, 'an L7 rule allows nothing on a TCP port');
  t.equal(verdict(deny(methods), {}, 'tcp'), false, 'and denies with what is left of it');
  t.equal(verdict(allow(methods, source({ namespaces: ['shop'] })), {}, 'tcp'), true, 'the other rules hold');
  t.equal(verdict([aPolicy('p', { action: 'CUSTOM', rules: [{}] })], {}), false, 'external authorization denies');
  t.equal(faultsOf({ action: 'AUDIT', rules: [{}] }, 'http').length, 1);
  t.match(faultsOf({ rules: [source({ ipBlocks: ['10.0.0.0/99'] })] }, 'http'), [{ reason: /not an address or CIDR/u }]);
});

test('what is remembered for a connection is the connection’s own, and what depends on the request is asked anew', async (t) => {
  const strangers = Array.from({ length: 300 }, (_, index) => source({ principals: [`cluster.local/ns/other/sa/s${index}`] }));
  const paths = Array.from({ length: 300 }, (_, index) => operation({ paths: [`/p${index}`] }));
  const rules = [...strangers, ...paths, { ...source({ namespaces: ['shop'] }), ...operation({ methods: ['PUT'] }) }];
  const [check] = rbacRules(allow(...rules), 'http', () => undefined).map((set) => readRbac(set, new Path()));
  const connectionOf = (peer: string) => ({
    peer: `spiffe://cluster.local/ns/${peer}`,
    local: '',
    remote: { ip: '10.1.2.3', port: 1 },
    destination: { ip: '10.96.0.1', port: 80 },
  });
  const head = (path: string, method = 'GET') => ({
    method,
    path,
    authority: 'echo',
    scheme: 'http',
    protocol: 'HTTP/1.1' as const,
    headers: new Headers(),
  });
  const [client, known] = [connectionOf('shop/sa/client'), connectionOf('other/sa/s299')];
  for (const round of [1, 2]) {
    const policyOf = (connection: typeof client, asked: ReturnType<typeof head> | undefined): string | undefined =>
      check?.({ connection, head: asked }).policy;
    t.equal(policyOf(client, head('/')), 'none', `round ${round}`);
    t.equal(policyOf(client, head('/p0')), 'ns[shop]-policy[p]-rule[300]', 'the first that is left');
    t.equal(policyOf(client, head('/p299')), 'ns[shop]-policy[p]-rule[599]', 'one beyond what is remembered');
    t.equal(policyOf(client, head('/', 'PUT')), 'ns[shop]-policy[p]-rule[600]');
    t.equal(policyOf(client, undefined), 'none', 'without a head, header and path tests match nothing');
    t.equal(policyOf(known, head('/p7')), 'ns[shop]-policy[p]-rule[299]', 'by the connection alone, whatever is asked');
    t.equal(policyOf(known, undefined), 'ns[shop]-policy[p]-rule[299]');
  }
});
