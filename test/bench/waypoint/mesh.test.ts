// What the two waypoints of the benchmark are configured with, without running them.
import { test } from 'tap';
import { envoyListeners, resourcesOf, WAYPOINT_ID } from '../../../bench/waypoint/mesh.ts';
import { staticBootstrap } from '../../harness/envoy-bootstrap.ts';
import { noEnvoy, validate } from '../../harness/envoy.ts';
import { createTestCa } from '../../harness/test-ca.ts';
import { readCluster } from '../../../waypoint/xds/clusters.ts';
import { readListener } from '../../../waypoint/xds/listeners.ts';
import { readRouteTable } from '../../../waypoint/xds/routes.ts';

const at = {
  waypoint: '127.1.0.1',
  plain: '127.1.0.2',
  tunnelled: '127.1.0.3',
  grpc: '127.1.0.4',
  pod: '127.1.0.5',
  outsidePod: '127.1.0.6',
};

test('ours takes every resource, and nothing of the objects was left out', async (t) => {
  const { clusters, listeners, routes, faults } = resourcesOf(at);
  t.same(faults, []);
  const http2 = clusters.map(readCluster).filter((cluster) => cluster.discovery === 'eds' && cluster.http2);
  t.same(
    http2.map(({ service }) => service?.name),
    ['grpc'],
  );
  t.same(listeners.map((listener) => readListener(listener).kind).toSorted(), ['chains', 'originate', 'terminate']);
  t.equal(routes.length, 3);
  for (const table of routes) t.equal(readRouteTable(table).hosts[0]?.routes.length, 7, table.name);
});

test('Envoy takes the same with its plain sockets', { skip: noEnvoy, timeout: 60_000 }, async (t) => {
  const resources = resourcesOf(at);
  const listeners = envoyListeners(resources, at);
  t.equal(listeners.length, resources.listeners.length + 2);
  t.equal(validate(staticBootstrap({ ...resources, listeners }, createTestCa().issue(WAYPOINT_ID))), '');
});
