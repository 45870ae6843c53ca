// What this waypoint does not implement is refused with the field's name.
import { create } from '@bufbuild/protobuf';
import { WireType } from '@bufbuild/protobuf/wire';
import { anyPack } from '@bufbuild/protobuf/wkt';
import { test } from 'tap';
import { Cluster_DiscoveryType, ClusterSchema } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import { HTTPFaultSchema } from '#shared/gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts';
import { HttpConnectionManagerSchema } from '#shared/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { waypointResources } from '../../../controlplane/translate/envoy/waypoint.ts';
import { readCluster } from '../../../waypoint/xds/clusters.ts';
import { readEndpoints } from '../../../waypoint/xds/endpoints.ts';
import { readListener } from '../../../waypoint/xds/listeners.ts';
import { readRouteTable } from '../../../waypoint/xds/routes.ts';
import { Path } from '../../../waypoint/xds/strict.ts';
import { shop } from '../../controlplane/translate/envoy/mesh.ts';

test('everything that our control plane makes can be read', async (t) => {
  const { mesh, scope } = shop();
  const { clusters, endpoints, listeners, routes } = waypointResources(mesh, scope);
  t.equal(clusters.map(readCluster).length, clusters.length);
  t.equal(routes.map(readRouteTable).length, routes.length);
  const [assignment] = endpoints.filter(({ clusterName }) => clusterName.startsWith('inbound-vip|80|http|echo.'));
  t.match(assignment && readEndpoints(assignment, new Path()), [
    {
      address: { kind: 'internal', listener: 'connect_originate', destination: { ip: '10.244.0.2', port: 8080 } },
      identity: 'spiffe://cluster.local/ns/shop/sa/default',
    },
  ]);
  t.same(
    listeners.map((listener) => readListener(listener).kind),
    ['originate', 'terminate', 'chains'],
  );
});

test('routes', async (t) => {
  const route = (action: object, match: object = { pathSpecifier: { case: 'prefix', value: '/' } }): (() => unknown) => {
    const message = create(RouteConfigurationSchema, {
      name: 'r',
      virtualHosts: [
        {
          name: 'v',
          domains: ['*'],
          routes: [{ match, action: { case: 'route', value: { clusterSpecifier: { case: 'cluster', value: 'c' }, ...action } } }],
        },
      ],
    });
    return () => readRouteTable(message);
  };
  t.throws(route({ retryPolicy: { retryOn: '5xx' } }), {
    message: 'virtual_hosts[0].routes[0].route.retry_policy: not supported',
  });
  t.throws(route({ requestMirrorPolicies: [{ cluster: 'm' }] }), { message: /request_mirror_policies: not supported/u });
  t.throws(route({}, { pathSpecifier: { case: 'safeRegex', value: { regex: '(' } } }), {
    message: /match\.safe_regex: .*is not a regular expression/u,
  });
  t.throws(route({}, {}), { message: /match: needs a path/u });
  t.throws(() => readRouteTable(create(RouteConfigurationSchema, { internalOnlyHeaders: ['x'] })), {
    message: 'internal_only_headers: not supported',
  });
});

test('clusters', async (t) => {
  t.throws(() => readCluster(create(ClusterSchema, { name: 'c', outlierDetection: {} })), {
    message: 'outlier_detection: not supported',
  });
  t.throws(
    () =>
      readCluster(
        create(ClusterSchema, { name: 'c', clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.STRICT_DNS } }),
      ),
    { message: /^type: only EDS/u },
  );
});

test('listeners, filters inside them, and fields that are newer than we are', async (t) => {
  const { mesh, scope } = shop();
  const main = waypointResources(mesh, scope).listeners.find(({ name }) => name === 'main_internal');
  const chain = main?.filterChains.find(({ name }) => name.startsWith('inbound-vip|80|http|echo.'));
  if (!main || !chain) throw new Error('no chain');
  const manager = create(HttpConnectionManagerSchema, {
    routeSpecifier: {
      case: 'rds',
      value: { routeConfigName: 'r', configSource: { configSourceSpecifier: { case: 'ads', value: {} } } },
    },
    serverHeaderTransformation: 2,
    httpFilters: [
      { name: 'fault', configType: { case: 'typedConfig', value: anyPack(HTTPFaultSchema, create(HTTPFaultSchema)) } },
    ],
  });
  const filters = [
    { name: 'hcm', configType: { case: 'typedConfig' as const, value: anyPack(HttpConnectionManagerSchema, manager) } },
  ];
  const changed = create(ListenerSchema, {
    name: 'l',
    listenerSpecifier: { case: 'internalListener', value: {} },
    filterChains: [{ ...chain, filters } as never],
  });
  t.throws(() => readListener(changed), {
    message:
      /filter_chains\[0\]\.filters\[0\]\.typed_config\.http_filters\[0\]: envoy\.extensions\.filters\.http\.fault\.v3\.HTTPFault is not supported/u,
  });
  const newer = create(ListenerSchema, { name: 'l', listenerSpecifier: { case: 'internalListener', value: {} } });
  newer.$unknown = [{ no: 999, wireType: WireType.Varint, data: new Uint8Array([1]) }];
  t.throws(() => readListener(newer), { message: /field number 999/u });
  const plain = create(ListenerSchema, {
    name: 'l',
    address: {
      address: { case: 'socketAddress', value: { address: '::', portSpecifier: { case: 'portValue', value: 15_008 } } },
    },
    filterChains: [{ filters }],
  });
  t.throws(() => readListener(plain), { message: /transport_socket: is missing: tunnels are always mTLS/u });
});
