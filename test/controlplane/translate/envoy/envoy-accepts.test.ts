import { create } from '@bufbuild/protobuf';
import t from 'tap';
import { waypointResources } from '../../../../controlplane/translate/envoy/waypoint.ts';
import { BootstrapSchema } from '#shared/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts';
import { noEnvoy, validate } from '../../../harness/envoy.ts';
import { staticBootstrap } from '../../../harness/envoy-bootstrap.ts';
import { createTestCa } from '../../../harness/test-ca.ts';
import { aMesh, aScope, shop } from './mesh.ts';

const certificate = createTestCa().issue('spiffe://cluster.local/ns/shop/sa/waypoint');

t.test('a real Envoy accepts the resources of a waypoint', { skip: noEnvoy }, async (t) => {
  const { mesh, scope } = shop();
  t.equal(validate(staticBootstrap(waypointResources(mesh, scope), certificate)), '');
});

t.test('and those of a waypoint that serves nothing yet', { skip: noEnvoy }, async (t) => {
  t.equal(validate(staticBootstrap(waypointResources(aMesh(), aScope()), certificate)), '');
});

t.test('the check itself can fail', { skip: noEnvoy }, async (t) => {
  t.match(validate(create(BootstrapSchema, { staticResources: { listeners: [{ name: 'x', filterChains: [{}] }] } })), /address/u);
});
