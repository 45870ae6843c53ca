import t from 'tap';
import { parseState, readLocalState } from '../../../ztunnel/state/local-file.ts';
import { dumpState } from '../../../ztunnel/state/dump.ts';
import { MeshStore } from '../../../ztunnel/state/store.ts';
import { EVERY_FIELD } from '../../fixtures/state-file.ts';

const YAML = `
workloads:
- uid: cluster1//v1/Pod/default/local
  name: local
  namespace: default
  serviceAccount: default
  workloadIps: ["127.0.0.1"]
  protocol: HBONE
  node: local
  network: ""
  waypoint: { destination: default/wp.default, hboneMtlsPort: 15008 }
  services:
    "default/example.com":
      80: 8080
policies:
- action: Allow
  rules:
  - - - notDestinationPorts: [9999]
        principals: [{ Exact: td/ns/a/sa/b }, { Presence: {} }]
        sourceIps: [10.0.0.0/8]
  name: deny-9999
  namespace: default
  scope: Namespace
services:
- name: local
  namespace: default
  hostname: example.com
  vips: [/127.10.0.1]
  ports: { 80: 8080 }
  loadBalancer: { mode: Failover, routingPreferences: [REGION, ZONE] }
`;

t.test('the YAML of Istio’s ztunnel; what is read is what the admin page shows', async (t) => {
  const store = new MeshStore('');
  store.apply(parseState(YAML));
  t.match(dumpState(store), {
    workloads: [
      {
        uid: 'cluster1//v1/Pod/default/local',
        workloadIps: ['127.0.0.1'],
        waypoint: { destination: 'default/wp.default', hboneMtlsPort: 15_008 },
        services: { 'default/example.com': { 80: 8080 } },
      },
    ],
    services: [
      {
        vips: ['/127.10.0.1'],
        endpoints: { 'cluster1//v1/Pod/default/local': { port: { 80: 8080 }, status: 'Healthy' } },
        loadBalancer: { mode: 'Failover', routingPreferences: ['Region', 'Zone'], healthPolicy: 'OnlyHealthy' },
      },
    ],
    policies: [
      {
        scope: 'Namespace',
        rules: [
          [
            [
              {
                notDestinationPorts: [9999],
                principals: [{ Exact: 'td/ns/a/sa/b' }, { Presence: [] }],
                sourceIps: ['10.0.0.0/8'],
              },
            ],
          ],
        ],
      },
    ],
  });
});

for (const [yaml, message] of [
  ['workloads: [{name: a, namespace: b, protocl: HBONE}]', 'workloads[0].protocl: is not a known field'],
  ['workloads: [{name: a}]', 'workloads[0].namespace: is missing'],
  ['workloads: [{name: a, namespace: b, workloadIps: [x]}]', 'workloads[0].workloadIps: "x" is not an IP address'],
  ['workloads: [{name: a, namespace: b, protocol: QUIC}]', 'workloads[0].protocol: "QUIC" is not one of HBONE, TCP'],
  ['workloads: {}', 'workloads: is not a list'],
  [
    'policies: [{name: a, rules: [[[{sourceIps: [10.0.0.0/33]}]]]}]',
    'policies[0].rules[0][0][0].sourceIps: "10.0.0.0/33" is not an address block',
  ],
  ['workloads: [{namespace: b}]', 'workloads[0].uid: is missing'],
  ['policies: [{name: a, rules: [[[{principals: [!Exat x]}]]]}]', 'policies[0].rules[0][0][0].principals[0]: is not a mapping'],
  [
    'policies: [{name: a, rules: [[[{principals: [{Exact: x, Prefix: y}]}]]]}]',
    'policies[0].rules[0][0][0].principals[0]: "Exact" is not one of Exact, Prefix, Suffix, Presence, Never, alone',
  ],
  ['services: [{namespace: b, hostname: h, ports: {80: 70000}}]', 'services[0].ports["80"]: "70000" is not a port'],
  [
    'services: [{namespace: b, hostname: h, cidrVips: [{cidr: x/8}]}]',
    'services[0].cidrVips[0].cidr: "x/8" is not an address block',
  ],
  [
    'services: [{namespace: b, hostname: h, endpoints: {u1: {workloadUid: u2}}}]',
    'services[0].endpoints["u1"].workloadUid: is not "u1", under which it stands',
  ],
  [
    'services: [{namespace: b, hostname: h, weightedWaypoints: [{weight: 1}]}]',
    'services[0].weightedWaypoints[0].destination: is missing',
  ],
  ['other: 1', 'other: is not a known field'],
] as const) {
  t.test(`refused: ${message}`, async (t) => {
    t.throws(() => parseState(yaml), { code: 'invalid_config', message });
  });
}

t.test('an error names the file or the variable', async (t) => {
  const path = t.testdir({ 'bad.yaml': 'services: 5' });
  await t.rejects(readLocalState({ localXdsPath: undefined, localXds: 'services: 5', clusterId: 'c' }), {
    code: 'invalid_config',
    message: 'LOCAL_XDS: services: is not a list',
  });
  await t.rejects(readLocalState({ localXdsPath: `${path}/bad.yaml`, localXds: undefined, clusterId: 'c' }), {
    code: 'invalid_config',
    message: /bad\.yaml: services: is not a list/u,
  });
});

t.test('a workload that names no cluster is in that of the ztunnel', async (t) => {
  const localXds = 'workloads: [{ name: a, namespace: shop }, { name: b, namespace: shop, clusterId: far }]';
  const state = await readLocalState({ localXdsPath: undefined, localXds, clusterId: 'near' });
  t.match(state, [{ workload: { uid: 'near//Pod/shop/a', clusterId: 'near' } }, { workload: { clusterId: 'far' } }]);
});

t.test('every field: read, shown as Istio’s ztunnel shows it, and the dump read back is the same state', async (t) => {
  const first = new MeshStore('');
  first.apply(parseState(EVERY_FIELD));
  const { workloads, services, policies, stagedServices } = dumpState(first);
  t.match(stagedServices, { 'default/staged.com': { u2: { workloadUid: 'u2', port: { 81: 8181 }, status: 'Healthy' } } });
  t.match(services, [
    {
      name: 'other-name',
      vips: ['/127.10.0.1', 'n1/127.10.0.2'],
      cidrVips: [
        { network: 'n1', cidr: '10.9.0.0/16' },
        { network: 'n2', cidr: 'fd00::/64' },
      ],
      endpoints: {
        'cluster1//v1/Pod/default/local': { port: { 80: 8080 }, status: 'Unhealthy' },
        u2: { workloadUid: 'u2', port: { 80: 9091 }, status: 'Healthy' },
      },
      weightedWaypoints: [
        { destination: { destination: 'n1/10.0.0.1', hboneMtlsPort: 15_008 }, weight: 3 },
        { destination: { destination: 'default/wp2', hboneMtlsPort: 15_012 }, weight: 1 },
      ],
      loadBalancer: { mode: 'Failover', routingPreferences: ['Region', 'Zone', 'Network'], healthPolicy: 'AllowAll' },
      ipFamilies: 'IPv4',
      canonical: true,
      visibility: 'Namespace',
    },
  ]);
  t.match(policies, [
    { rules: [[[{ principals: [{ Exact: 'td/ns/a/sa/b' }, { Presence: [] }], notDestinationIps: ['10.1.0.7/16'] }]]] },
  ]);

  const second = new MeshStore('');
  second.apply(parseState(JSON.stringify({ workloads, services, policies })));
  for (const kind of ['workloads', 'services', 'policies'] as const)
    t.strictSame([...second[kind].values()], [...first[kind].values()], kind);
});

t.test('a match of no known kind stays one when its dump is read', async (t) => {
  const policy = { name: 'a', rules: [[[{ principals: [{ Never: [] }] }]]] };
  t.match(parseState(JSON.stringify({ policies: [policy] })), [{ policy: { rules: [[[{ principals: [{ kind: 'never' }] }]]] } }]);
});

t.test('string matches as tags and as mappings are the same', async (t) => {
  const read = (matches: string) => parseState(`policies: [{name: a, rules: [[[{principals: [${matches}]}]]]}]`);
  t.strictSame(
    read('!Exact a, !Prefix b, !Suffix c, !Presence []'),
    read('{Exact: a}, {Prefix: b}, {Suffix: c}, {Presence: {}}'),
  );
  t.strictSame(read('!Presence'), read('{Presence: []}'));
});
