// Who is joined within the node, and who only looks as if it were on it.
import { once } from 'node:events';
import t from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { MeshLab } from '../harness/mesh-lab.ts';

const web = aWorkload('web', { ips: ['10.1.0.1'], clusterId: 'here' });
const api = aWorkload('api', { ips: ['10.1.0.2'], clusterId: 'here' });
/** Of another cluster, whose node is called the same. */
const namesake = aWorkload('api', { ips: ['10.1.0.7'], clusterId: 'far', uid: 'far//Pod/shop/api' });

for (const [what, order] of [
  ['before', [namesake, api]],
  ['after', [api, namesake]],
] as const)
  t.test(`a namesake in another cluster that is known ${what} the pod is reached by a tunnel, never joined`, async (t) => {
    const lab = new MeshLab(t);
    const node = await lab.node('node-1', { CLUSTER_ID: 'here' });
    for (const workload of order) await lab.apply(workload);
    await lab.apply(web);
    const [client, server] = [await lab.captured(web), await lab.captured(api)];
    lab.net.pod('far', '10.1.0.7');
    let served = 0;
    await server.serve((socket) => {
      served += 1;
      socket.pipe(socket);
    }, 8080);

    const joined = await client.connect({ ip: '10.1.0.2', port: 8080 });
    joined.write('hi');
    await once(joined, 'data');
    joined.destroy();
    t.equal((await node.line({ direction: 'outbound' }))['dst.addr'], '10.1.0.2:8080');

    client.dial({ ip: '10.1.0.7', port: 8080 });
    t.match(await node.line({ direction: 'outbound' }), { 'dst.addr': '10.1.0.7:15008', 'dst.cluster': 'far', level: 'error' });
    t.equal(served, 1);
  });

t.test('a connection to a pod of the node that is about to be served waits for it', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1', { CLUSTER_ID: 'here' });
  await lab.apply(web, api);
  const client = await lab.captured(web);
  const server = lab.pod(api);
  const early = client.dial({ ip: '10.1.0.2', port: 8080 });
  await server.serve((socket) => void socket.pipe(socket), 8080);
  await once(early, 'connect');
  early.write('hi');
  await lab.enrol(api, server);
  t.equal(String((await once(early, 'data'))[0]), 'hi');
  early.end();
  t.equal((await node.line({ direction: 'outbound' }))['dst.addr'], '10.1.0.2:8080', 'within the node');
});

t.test('one to a pod of the node that is never served fails', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1', { CLUSTER_ID: 'here' });
  await lab.apply(web, api);
  const client = await lab.captured(web);
  lab.pod(api);
  client.dial({ ip: '10.1.0.2', port: 8080 });
  t.match(await node.line({ direction: 'outbound' }), { level: 'error', 'dst.addr': '10.1.0.2:15008' });
});
