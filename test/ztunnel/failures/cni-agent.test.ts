// The CNI agent restarts while there is traffic: pods are served as before, what it has to say afterwards counts.
import type { Socket } from 'node:net';
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { eventually, MeshLab } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

t.test('away, and back with fewer pods and with more', async (t) => {
  const lab = new MeshLab(t);
  const near = await lab.node('node-1');
  await lab.node('node-2');
  await lab.apply(web, api, cart);
  const [client, other, server] = [await lab.captured(web), await lab.captured(api), await lab.captured(cart)];
  const port = await server.serve((socket: Socket) => void socket.pipe(socket));
  const connect = async (from: TestPod): Promise<Endpoint> => {
    const end = await Endpoint.open(from, { ip: server.ip, port });
    end.socket.write('hello');
    await end.untilBytes(5);
    return end;
  };
  const [held, leaving] = [await connect(client), await connect(other)];
  await eventually('readiness', () => near.app.readiness.ready || undefined);

  near.agent.refuse = true;
  near.agent.hangUp();
  await eventually('the loss to be told', () => (near.app.readiness.ready ? undefined : true));
  t.same(near.app.readiness.pending, ['workload proxy manager']);
  held.socket.write('again');
  await held.untilBytes(10);
  await connect(client);
  await connect(other);

  // In the meantime one pod has gone and another has come.
  near.agent.pods.delete('zds-api');
  const late = lab.pod(aWorkload('late', { node: 'node-1', ips: ['10.1.0.5'] }));
  await lab.apply(aWorkload('late', { node: 'node-1', ips: ['10.1.0.5'] }));
  const ids = { name: 'late', namespace: 'shop', serviceAccount: 'late' };
  near.agent.pods.set('zds-late', { uid: 'zds-late', ...ids, netns: late.netns.fd });
  near.agent.refuse = false;
  await near.agent.connected();
  await eventually('readiness', () => near.app.readiness.ready || undefined);
  await leaving.until('closed');
  held.socket.write('still');
  await held.untilBytes(15);
  t.same(
    near.app.pods.list().map(({ uid, state }) => `${uid} ${state}`),
    ['zds-web Up', 'zds-late Up'],
  );
  t.equal(await near.metric('workload_manager_active_proxy_count'), 2);
  t.same(held.seen, [], 'a connection of a pod that stays never noticed');
});
