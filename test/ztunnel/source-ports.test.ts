// A plaintext client's address is borne by two sockets in the pod's network: its own, which is redirected, and ours to the application.
// Were both to take their ports from the same few, connection tracking would take the client's next SYN for a packet of our socket, send
// it past the redirect, and the client would get no answer.
import t from 'tap';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { MeshLab } from '../harness/mesh-lab.ts';

const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const PORTS = { first: 40_000, last: 40_063 };
const HELD = 24;

for (const backend of BACKENDS)
  t.test(`${backend}: a client that has few ports is always answered`, async (t) => {
    const lab = new MeshLab(t);
    await lab.node('node-2', { CULVERT_BACKEND: backend });
    await lab.apply(cart);
    const [client, server] = [lab.net.pod('stranger', '10.1.0.9'), await lab.captured(cart)];
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
