import { create } from '@bufbuild/protobuf';
import t from 'tap';
import { sidecarInbound, sidecarOutbound } from '../../../../controlplane/translate/envoy/sidecar.ts';
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

t.test('and those of a sidecar, with and without mTLS', { skip: noEnvoy }, async (t) => {
  const { mesh } = shop();
  for (const mtls of [undefined, ['cluster.local']]) {
    const outbound = sidecarOutbound(mesh, 'shop', mtls);
    const inbound = sidecarInbound(mesh.workloads[0], mtls);
    const both = {
      clusters: [...outbound.clusters, ...inbound.clusters],
      endpoints: outbound.endpoints,
      listeners: [...outbound.listeners, ...inbound.listeners],
      routes: [...outbound.routes, ...inbound.routes],
      faults: [],
    };
    t.equal(validate(staticBootstrap(both, certificate)), '');
  }
});
