// What istiod 1.32 said of a mesh of ours (fixtures/istiod-resources.json), byte for byte: our own reading of its protocol is checked against
// nothing else without an istiod.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { Logging } from '#shared/telemetry/log.ts';
import type { ResourceType } from '#shared/xds/resource-type.ts';
import { dumpState } from '../../../ztunnel/state/dump.ts';
import { MeshStore } from '../../../ztunnel/state/store.ts';
import { addressType, authorizationType } from '../../../ztunnel/state/xds-types.ts';

interface Recorded {
  readonly name: string;
  readonly type: string;
  /** Base64 of the message. */
  readonly value: string;
}

const recorded = JSON.parse(readFileSync(new URL('../../fixtures/istiod-resources.json', import.meta.url), 'utf8')) as Recorded[];

function take<T>(type: ResourceType<T>): void {
  const set = recorded
    .filter((one) => type.typeUrl.endsWith(one.type))
    .map(({ name, value }) => ({ name, version: '1', resource: type.decode(Buffer.from(value, 'base64'), name) }));
  type.apply({ set, removed: [] });
}

const store = new MeshStore('node-1');
const warnings: string[] = [];
take(addressType(store, new Logging({ sink: { write: (line) => warnings.push(line) } }).scope('xds')));
take(authorizationType(store));
const { workloads, services, policies, stagedServices } = dumpState(store);

/** By uid, or by NAMESPACE/NAME. */
const indexed = (list: readonly object[]): Record<string, object> =>
  Object.fromEntries((list as Record<string, string>[]).map((one) => [one['uid'] ?? `${one['namespace']}/${one['name']}`, one]));

t.test('everything is taken', async (t) => {
  t.same(warnings, []);
  t.equal(workloads.length + services.length + policies.length, recorded.length);
});

t.test('workloads', async (t) => {
  const all = indexed(workloads);
  const of = (rest: string): object => all[`Kubernetes/${rest}`] ?? {};
  t.match(of('/Pod/shop/web-7d4b9c6f5d-abcde'), {
    workloadIps: ['10.1.0.2', 'fd00::2'],
    network: 'net-1',
    protocol: 'HBONE',
    node: 'node-1',
    serviceAccount: 'web',
    trustDomain: 'cluster.local',
    workloadName: 'web',
    workloadType: 'pod',
    canonicalRevision: 'v1',
    locality: { region: 'r1', zone: 'z1', subzone: 's1' },
    authorizationPolicies: ['shop/web-l7', 'shop/converted_peer_authentication_web-ports'],
    services: { 'shop/web.shop.svc.cluster.local': { 9000: 9090 }, 'shop/headless.shop.svc.cluster.local': { 80: 8080 } },
  });
  t.match(of('/Pod/other/native'), { protocol: 'HBONE', nativeTunnel: true });
  t.match(of('discovery.k8s.io/EndpointSlice/other/byhand-1/192.0.2.2'), {
    networkMode: 'HostNetwork',
    status: 'Unhealthy',
    protocol: 'TCP',
    serviceAccount: 'default',
  });
  t.match(of('networking.istio.io/ServiceEntry/other/dns/dns.example.com'), { hostname: 'dns.example.com', workloadIps: [] });
  t.match(of('networking.istio.io/WorkloadEntry/other/vm-1'), {
    capacity: 7,
    locality: { region: 'r2', zone: 'z5', subzone: '' },
  });
  t.match(all['NetworkGateway/net-2/203.0.113.200/15008'], { network: 'net-2', workloadIps: ['203.0.113.200'] });
});

t.test('services', async (t) => {
  const all = indexed(services);
  t.match(all['other/cidr'], {
    vips: [],
    cidrVips: [{ network: 'net-1', cidr: '198.51.100.0/24' }],
    loadBalancer: { mode: 'Passthrough', healthPolicy: 'AllowAll' },
  });
  t.match(all['other/v6'], { vips: ['net-1/2001:db8:1::1'], cidrVips: [{ cidr: '2001:db8::/64' }] });
  t.match(all['other/near'], {
    loadBalancer: { mode: 'Failover', routingPreferences: ['Network', 'Region', 'Zone', 'Subzone', 'Node'] },
  });
  t.match(all['other/local'], { loadBalancer: { mode: 'Strict', routingPreferences: ['Node'] } });
  t.match(all['shop/headless'], { vips: [], canonical: true });
  t.match(all['shop/split'], {
    waypoint: { destination: 'shop/waypoint.shop.svc.cluster.local', hboneMtlsPort: 15_008 },
    weightedWaypoints: [{ weight: 70 }, { weight: 30 }],
  });
  t.ok('shop/web.shop.svc.cluster.local' in stagedServices, 'an endpoint whose service was not recorded waits for it');
});

t.test('policies', async (t) => {
  const all = indexed(policies);
  t.match(all['other/dry'], { dryRun: true, action: 'Allow', scope: 'Namespace' });
  t.match(all['other/nobody'], { scope: 'WorkloadSelector', rules: [] });
  t.match(all['istio-system/everywhere'], { scope: 'Global', action: 'Deny' });
  const rules = (name: string): unknown => (all[name] as { rules: unknown }).rules;
  t.same(rules('istio-system/everywhere'), [
    [[{ sourceIps: ['203.0.113.0/24', '203.0.113.7/32'], notSourceIps: ['203.0.113.8/32'] }]],
  ]);
  const presence = [{ notPrincipals: [{ Presence: [] }] }];
  t.same(rules('shop/converted_peer_authentication_web-ports'), [[presence, [{ notDestinationPorts: [9090] }], presence]]);
  t.same(rules('shop/deny-l7'), [[[{}], [{ namespaces: [{ Exact: 'evil' }] }]], [[{}]]]);
  t.same(rules('shop/deny-ports'), [
    [
      [{ destinationPorts: [7000, 7001] }],
      [{ namespaces: [{ Prefix: 'bad' }, { Suffix: 'worse' }], notPrincipals: [{ Prefix: 'cluster.local/ns/shop/sa/' }] }],
    ],
  ]);
  t.same(rules('shop/web-l7'), [
    [[{ namespaces: [{ Exact: 'shop' }] }]],
    [
      [
        {
          serviceAccounts: [
            { namespace: 'shop', serviceAccount: 'client' },
            { namespace: 'other', serviceAccount: 'plain' },
          ],
        },
      ],
    ],
    [[{ sourceIps: ['10.1.0.0/16'], notSourceIps: ['10.1.0.9/32'] }], [{ destinationPorts: [8080] }]],
  ]);
});
