// AuthorizationPolicy → what ztunnels enforce.
import { toJson } from '@bufbuild/protobuf';
import t from 'tap';
import { translateAuthorization } from '../../../controlplane/translate/authorization.ts';
import { PolicyIndex } from '../../../controlplane/translate/policies.ts';
import { AuthorizationSchema } from '../../../shared/gen/istio/security/authorization_pb.ts';
import type { AuthorizationPolicySpec, PolicyRule } from '../../../shared/kube/istio-api.ts';
import { aPolicy, SETTINGS, storeOf } from './objects.ts';

/** The policy as JSON of its message; absent fields are defaults. */
function sent(spec: AuthorizationPolicySpec, meta: Parameters<typeof aPolicy>[1] = {}): unknown {
  const { authorization } = translateAuthorization(aPolicy(spec, meta), SETTINGS);
  return authorization && toJson(AuthorizationSchema, authorization);
}

function groups(rule: PolicyRule, action: 'ALLOW' | 'DENY' = 'ALLOW'): unknown {
  return (sent({ action, rules: [rule] }) as { groups?: unknown } | undefined)?.groups;
}

t.test('scope and action', async (t) => {
  t.same(sent({}), { name: 'p', namespace: 'shop', scope: 'NAMESPACE' }, 'ALLOW with no rules allows nothing');
  t.same(
    sent({ action: 'DENY' }, { namespace: 'culvert-system' }),
    { name: 'p', namespace: 'culvert-system', action: 'DENY' },
    'GLOBAL is 0',
  );
  t.match(sent({ selector: { matchLabels: { a: 'b' } } }), { scope: 'WORKLOAD_SELECTOR' });
  t.match(sent({ selector: { matchLabels: { a: 'b' } } }, { namespace: 'culvert-system' }), { scope: 'WORKLOAD_SELECTOR' });
  t.match(sent({ selector: {} }), { scope: 'NAMESPACE' });
});

t.test('not for ztunnels', async (t) => {
  t.equal(sent({ targetRefs: [{ kind: 'Gateway', name: 'w' }] }), undefined);
  t.equal(sent({ targetRef: { kind: 'Service', name: 'w' } }), undefined);
  for (const action of ['CUSTOM', 'AUDIT'] as const) {
    t.match(translateAuthorization(aPolicy({ action }), SETTINGS), {
      authorization: undefined,
      problem: { field: 'spec.action' },
    });
  }
  const dry = translateAuthorization(aPolicy({}, { annotations: { 'istio.io/dry-run': 'true' } }), SETTINGS);
  t.match(dry, { authorization: undefined, problem: { reason: /dry run/u } });
});

t.test('every L4 attribute', async (t) => {
  const source = {
    principals: ['a', '*', 'p*', '*s'],
    notPrincipals: ['b'],
    namespaces: ['n'],
    notNamespaces: ['m'],
    serviceAccounts: ['ns/x', 'y'],
    notServiceAccounts: ['z'],
    ipBlocks: ['10.0.0.0/8', '10.1.1.1'],
    notIpBlocks: ['fd00::/8'],
  };
  t.same(groups({ from: [{ source }], to: [{ operation: { ports: ['80'], notPorts: ['81'] } }] }), [
    {
      rules: [
        {
          matches: [
            {
              principals: [{ exact: 'a' }, { presence: {} }, { prefix: 'p' }, { suffix: 's' }],
              notPrincipals: [{ exact: 'b' }],
              namespaces: [{ exact: 'n' }],
              notNamespaces: [{ exact: 'm' }],
              serviceAccounts: [
                { namespace: 'ns', serviceAccount: 'x' },
                { namespace: 'shop', serviceAccount: 'y' },
              ],
              notServiceAccounts: [{ namespace: 'shop', serviceAccount: 'z' }],
              sourceIps: [
                { address: 'CgAAAA==', length: 8 },
                { address: 'CgEBAQ==', length: 32 },
              ],
              notSourceIps: [{ address: '/QAAAAAAAAAAAAAAAAAAAA==', length: 8 }],
            },
          ],
        },
        { matches: [{ destinationPorts: [80], notDestinationPorts: [81] }] },
      ],
    },
  ]);
  const when = (key: string, value: string): unknown => groups({ when: [{ key, values: [value], notValues: [value] }] });
  const only = (match: object): unknown => [{ rules: [{ matches: [match] }] }];
  const ip = [{ address: 'CgEBAQ==', length: 32 }];
  t.same(when('source.ip', '10.1.1.1'), only({ sourceIps: ip, notSourceIps: ip }));
  t.same(when('destination.ip', '10.1.1.1'), only({ destinationIps: ip, notDestinationIps: ip }));
  t.same(when('source.namespace', 'n'), only({ namespaces: [{ exact: 'n' }], notNamespaces: [{ exact: 'n' }] }));
  t.same(when('source.principal', 'p'), only({ principals: [{ exact: 'p' }], notPrincipals: [{ exact: 'p' }] }));
  t.same(when('destination.port', '80'), only({ destinationPorts: [80], notDestinationPorts: [80] }));
});

t.test('how rules, froms and tos combine', async (t) => {
  t.same(groups({}), [{}], 'an empty rule matches everything');
  const two = sent({ rules: [{ from: [{ source: { namespaces: ['a'] } }, { source: { namespaces: ['b'] } }] }, {}] });
  t.match(two, { groups: [{ rules: [{ matches: [{}, {}] }] }, {}] }, 'rules are groups, froms are matches');
  const conditions = groups({
    when: [
      { key: 'source.ip', values: ['10.0.0.1'] },
      { key: 'destination.port', values: ['1'] },
    ],
  }) as { rules: unknown[] }[];
  t.equal(conditions[0]?.rules.length, 2, 'conditions must all hold');
});

t.test('HTTP attributes', async (t) => {
  const namespaces = { source: { namespaces: ['a'] } };
  const l7: PolicyRule[] = [
    { to: [{ operation: { methods: ['GET'] } }] },
    { to: [{ operation: { ports: ['80'], paths: ['/x'] } }] },
    { to: [{ operation: { notHosts: ['x'] } }] },
    { from: [{ source: { requestPrincipals: ['*'] } }] },
    { from: [{ source: { remoteIpBlocks: ['10.0.0.1'] } }] },
    { when: [{ key: 'request.headers[x]', values: ['y'] }] },
    { from: [namespaces], to: [{ operation: { ports: ['1'] } }, { operation: { methods: ['GET'] } }] },
  ];
  for (const rule of l7) {
    const allow = translateAuthorization(aPolicy({ rules: [{ from: [namespaces] }, rule] }), SETTINGS);
    t.equal(allow.authorization?.groups.length, 1, `ALLOW drops the whole rule: ${JSON.stringify(rule)}`);
    t.match(allow.problem, { field: 'spec.rules[1]', reason: /is about HTTP/u });
    t.equal(
      translateAuthorization(aPolicy({ action: 'DENY', rules: [rule] }), SETTINGS).authorization?.groups.length,
      1,
      'DENY keeps it',
    );
  }
  t.same(groups({ from: [namespaces], to: [{ operation: { ports: ['80'], methods: ['GET'] } }] }, 'DENY'), [
    { rules: [{ matches: [{ namespaces: [{ exact: 'a' }] }] }, { matches: [{ destinationPorts: [80] }] }] },
  ]);
  t.same(
    groups({ to: [{ operation: { methods: ['GET'] } }] }, 'DENY'),
    [{ rules: [{ matches: [{}] }] }],
    'an empty match, which matches nothing',
  );
});

t.test('workloads list the policies that select them', async (t) => {
  const selector = { matchLabels: { app: 'web' } };
  const index = new PolicyIndex(
    storeOf(
      aPolicy({ selector }, { name: 'z' }),
      aPolicy({ selector }, { name: 'b' }),
      aPolicy({ selector }, { name: 'mesh', namespace: 'culvert-system' }),
      aPolicy({ selector }, { name: 'elsewhere', namespace: 'other' }),
      aPolicy({ selector: { matchLabels: { app: 'db' } } }, { name: 'db' }),
      aPolicy({ selector, action: 'CUSTOM' }, { name: 'custom' }),
      aPolicy({}, { name: 'whole-namespace' }),
    ),
    SETTINGS,
  );
  t.same(index.policiesOf('shop', { app: 'web', more: 'x' }), ['culvert-system/mesh', 'shop/b', 'shop/z']);
  t.same(index.policiesOf('shop', undefined), []);
  t.match(index.faults, [{ object: 'AuthorizationPolicy/shop/custom', field: 'spec.action' }]);
  t.equal(index.authorizations.length, 6, 'all but the unsupported one are sent');
});
