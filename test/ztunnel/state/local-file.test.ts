import t from 'tap';
import { parseState, readStateFile } from '../../../ztunnel/state/local-file.ts';
import { dumpState } from '../../../ztunnel/state/dump.ts';
import { MeshStore } from '../../../ztunnel/state/store.ts';

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
        loadBalancer: { mode: 'Failover', routingPreferences: ['REGION', 'ZONE'], healthPolicy: 'OnlyHealthy' },
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
                principals: [{ Exact: 'td/ns/a/sa/b' }, { Presence: {} }],
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
  ['other: 1', 'other: is not a known field'],
] as const) {
  t.test(`refused: ${message}`, async (t) => {
    t.throws(() => parseState(yaml), { code: 'invalid_config', message });
  });
}

t.test('an error names the file', async (t) => {
  const path = t.testdir({ 'bad.yaml': 'services: 5' });
  await t.rejects(readStateFile(`${path}/bad.yaml`), { code: 'invalid_config', message: /bad\.yaml: services: is not a list/u });
});
