// A plaintext client's address is borne by two sockets in the pod's network: its own, which is redirected, and ours to the application.
// Were both to take their ports from the same few, connection tracking would take the client's next SYN for a packet of our socket, send
// it past the redirect, and the client would get no answer.
import t from 'tap';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-2', ips: ['10.1.0.2'] });
const PORTS = { first: 40_000, last: 40_063 };
const HELD = 24;

const CLIENTS: Record<string, (lab: MeshLab) => TestPod | Promise<TestPod>> = {
  'of plaintext': (lab) => lab.net.pod('stranger', '10.1.0.9'),
  // Its own connections from before the pod joined, or while it leaves, are in the pod's network too.
  'by a tunnel': (lab) => lab.captured(web),
  'of the same node': (lab) => lab.captured(api),
};

for (const backend of BACKENDS)
  for (const [name, clientOf] of Object.entries(CLIENTS))
    t.test(`${backend}: a client ${name} that has few ports is always answered`, async (t) => {
      const lab = new MeshLab(t);
      for (const node of ['node-1', 'node-2']) await lab.node(node, { CULVERT_BACKEND: backend });
      await lab.apply(cart, web, api);
      const [client, server] = [await clientOf(lab), await lab.captured(cart)];
      for (const { netns } of [client, server])
        netns.exec('sysctl', '-qw', `net.ipv4.ip_local_port_range=${PORTS.first} ${PORTS.last}`);
      const sources = new Set<number>();
      const port = await server.serve((socket) => {
        sources.add(socket.remotePort ?? 0);
        socket.pipe(socket);
      });
      for (let round = 0; round < 2; round++) {
        const held: Endpoint[] = [];
        for (let i = 0; i < HELD; i++) {
          const end = await Endpoint.open(client, { ip: server.ip, port });
          end.socket.write('hello');
          t.ok(await end.gets(5), `connection ${i}`);
          held.push(end);
        }
        // A reset leaves nothing waiting on either side, so that the next round has all ports again.
        for (const { socket } of held) socket.resetAndDestroy();
      }
      t.same(
        [...sources].filter((source) => source >= PORTS.first && source <= PORTS.last),
        [],
        'none of ours is one that a client may get',
      );
    });
