// How the process of a ztunnel presents itself to a control plane: everything that its environment and the mesh's file say of it, as it
// arrives there (facts: ztunnel 8).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { TestControlPlane } from '../harness/control-plane.ts';
import { eventually } from '../harness/mesh-lab.ts';
import { createTestCa } from '../harness/test-ca.ts';

const MAIN = resolve(import.meta.dirname, '../../ztunnel/main.ts');

t.test('node, metadata, headers and cluster are those of the environment and of the mesh’s file', async (t) => {
  const dir = t.testdir({ token: 'a token\n' });
  const plane = new TestControlPlane(createTestCa());
  t.teardown(() => plane.stop());
  const web = aWorkload('web', { node: 'node-1', clusterId: 'cluster-1' });
  plane.setWorkload(web);
  await plane.start();
  // Where a ztunnel is told where its control plane is by the mesh's file alone.
  mkdirSync(join(dir, 'etc/istio/config'), { recursive: true });
  const config = { discoveryAddress: plane.address, proxyMetadata: { MESH: 'file', BOTH: 'file', STRONGEST: 'file' } };
  writeFileSync(join(dir, 'etc/istio/config/mesh'), JSON.stringify({ defaultConfig: config }));
  const env = {
    PATH: process.env['PATH'],
    NODE_NAME: 'node-1',
    CA_ADDRESS: plane.address,
    AUTH_TOKEN: './token',
    CLUSTER_ID: 'cluster-1',
    CLUSTER_DOMAIN: 'mesh.example',
    POD_NAME: 'ztunnel-x',
    POD_NAMESPACE: 'istio-system',
    SERVICE_ACCOUNT: 'ztunnel',
    INSTANCE_IP: '10.9.8.7',
    XDS_HEADER_X_XDS: 'for xds',
    CA_HEADER_X_CA: 'for the CA',
    PROXY_CONFIG: 'proxyMetadata: { BOTH: variable, STRONGEST: variable }',
    ISTIO_META_STRONGEST: 'environment',
    ISTIO_META_MESH_ID: 'mesh-1',
    ISTIO_METAJSON_LABELS: '{"app":"ztunnel"}',
    INPOD_UDS: join(dir, 'zds.sock'),
    ADMIN_PORT: '0',
    STATS_PORT: '0',
    READINESS_PORT: '0',
  };
  const child = spawn(process.execPath, [MAIN], { cwd: dir, env, stdio: ['ignore', 'ignore', 'inherit'] });
  t.teardown(async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  });

  const { node, headers } = await eventually('the call for state', () => plane.xdsCalls[0]);
  t.equal(node?.id, 'ztunnel~10.9.8.7~ztunnel-x.istio-system~istio-system.svc.mesh.example');
  t.strictSame(node?.metadata, {
    NAME: 'ztunnel-x',
    NAMESPACE: 'istio-system',
    INSTANCE_IPS: '10.9.8.7',
    NODE_NAME: 'node-1',
    SERVICE_ACCOUNT: 'ztunnel',
    CLUSTER_ID: 'cluster-1',
    MESH: 'file',
    BOTH: 'variable',
    STRONGEST: 'environment',
    MESH_ID: 'mesh-1',
    LABELS: { app: 'ztunnel' },
  });
  t.match(headers, { authorization: 'Bearer a token', clusterid: 'cluster-1', x_xds: 'for xds' });
  t.notOk('x_ca' in headers);

  const asked = await eventually('a request for a certificate', () => plane.caHeaders[0]);
  t.match(asked, { authorization: 'Bearer a token', clusterid: 'cluster-1', x_ca: 'for the CA' });
  t.notOk('x_xds' in asked);
  t.match(plane.requests, [{ impersonated: web.identity }]);
});
