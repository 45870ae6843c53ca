// Who a proxy says it is, and whether it may.
import { create } from '@bufbuild/protobuf';
import t from 'tap';
import { checkNodeIdentity } from '../../../controlplane/serve/identity.ts';
import type { AdsCaller } from '../../../controlplane/serve/identity.ts';
import { parseNode } from '../../../controlplane/serve/node.ts';
import { NodeSchema } from '../../../shared/gen/envoy/config/core/v3/base_pb.ts';
import { spiffeId } from '../../../shared/ids.ts';

const node = (id: string, metadata: Record<string, string> = {}): ReturnType<typeof parseNode> =>
  parseNode(create(NodeSchema, { id, metadata }));

t.test('nodes', async (t) => {
  t.match(node('waypoint~10.0.0.1~w-0.shop~shop.svc.cluster.local'), {
    kind: 'waypoint',
    ip: '10.0.0.1',
    podName: 'w-0',
    namespace: 'shop',
    serviceAccount: '',
    nodeName: '',
  });
  const metadata = { NAMESPACE: 'infra', SERVICE_ACCOUNT: 'sa', NODE_NAME: 'n1', INSTANCE_IPS: '10.0.0.2,fd00::2' };
  t.match(node('ztunnel~1.1.1.1~z.infra~infra.svc', metadata), {
    kind: 'ztunnel',
    ip: '10.0.0.2',
    namespace: 'infra',
    serviceAccount: 'sa',
    nodeName: 'n1',
  });
  for (const id of ['', 'a', 'sidecar~1~2', 'sidecar~1~2~3~4', 'robot~1~2.3~4'])
    t.throws(() => node(id), { name: 'RpcError' }, id);
  t.throws(() => node('ztunnel~1.1.1.1~z.infra~x', { X: 'y'.repeat(300_000) }), { message: /too large/u });
  t.throws(() => parseNode(undefined), { message: /no node.id/u });
});

t.test('identities', async (t) => {
  const caller = (namespace: string, serviceAccount: string, pod?: string): AdsCaller => ({
    identity: spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount }),
    namespace,
    serviceAccount,
    ...(pod !== undefined && { pod: { name: pod } }),
  });
  const waypoint = node('waypoint~10.0.0.1~w-0.shop~x', { SERVICE_ACCOUNT: 'w' });
  for (const good of [caller('shop', 'w'), caller('shop', 'w', 'w-0'), caller('shop', 'w', '')])
    t.doesNotThrow(() => checkNodeIdentity(waypoint, good));
  t.throws(() => checkNodeIdentity(waypoint, caller('other', 'w')), { message: /namespace/u });
  t.throws(() => checkNodeIdentity(waypoint, caller('shop', 'x')), { message: /service account/u });
  t.throws(() => checkNodeIdentity(waypoint, caller('shop', 'w', 'w-1')), { message: /not of the pod/u });
});
