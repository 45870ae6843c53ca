// A service without a usable endpoint: the client is reset, and line and count name the service.
import t from 'tap';
import { aService, aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { MeshLab } from '../harness/mesh-lab.ts';

t.test('no healthy upstream', { timeout: 60_000 }, async (t) => {
  const lab = new MeshLab(t);
  const near = await lab.node('node-1');
  const web = aWorkload('web', { ips: ['10.1.0.1'] });
  await lab.apply(web, aService('empty', { vips: ['10.96.0.3'] }));
  const client = await lab.captured(web);
  // A reset may come before the application hears that its connection was there.
  await client.connect({ ip: '10.96.0.3', port: 80 }).then(
    (socket) => new Endpoint(socket).until('closed'),
    () => undefined,
  );
  t.match(await near.line({ level: 'error' }), {
    'dst.addr': '10.96.0.3:80',
    'dst.service': 'empty.shop.svc.cluster.local',
    error: 'no healthy upstream: 10.96.0.3:80',
  });
  const labels = 'destination_service="empty.shop.svc.cluster.local"';
  t.equal(await near.metric('istio_tcp_connections_failed_total', labels), 1);
  t.equal(await near.metric('istio_tcp_connections_failed_total', 'response_flags="UH"'), 1);
});
