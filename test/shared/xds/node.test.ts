import t from 'tap';
import { istioMetadata, xdsNode } from '#shared/xds/node.ts';

t.test('a proxy names itself as Istio expects', async (t) => {
  const node = xdsNode({
    kind: 'waypoint',
    instanceIp: '10.0.0.7',
    podName: 'wp-0',
    podNamespace: 'shop',
    serviceAccount: 'waypoint',
    clusterId: 'c1',
    clusterDomain: 'corp.local',
    metadata: istioMetadata({
      ISTIO_META_MESH_ID: 'm',
      ISTIO_METAJSON_LABELS: '{"app":"x"}',
      ISTIO_METAJSON_BAD: '{',
      OTHER: 'no',
      ISTIO_META_UNSET: undefined,
    }),
  });
  t.equal(node.id, 'waypoint~10.0.0.7~wp-0.shop~shop.svc.corp.local');
  t.same(node.metadata, {
    NAME: 'wp-0',
    NAMESPACE: 'shop',
    INSTANCE_IPS: '10.0.0.7',
    SERVICE_ACCOUNT: 'waypoint',
    CLUSTER_ID: 'c1',
    MESH_ID: 'm',
    LABELS: { app: 'x' },
    BAD: '{',
  });
  t.equal(
    xdsNode({ kind: 'ztunnel', instanceIp: '', podName: 'z', podNamespace: 'n' }).id,
    'ztunnel~1.1.1.1~z.n~n.svc.cluster.local',
  );
});
