// A client that says all it has, or gives up, before its destination is connected: the server sees it as it would without a mesh, once it
// can be reached.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

interface Way {
  readonly client: TestPod;
  readonly server: TestPod;
}

const WAYS: Record<string, (lab: MeshLab) => Promise<Way>> = {
  'a tunnel': async (lab) => ({ client: await lab.captured(web), server: await lab.captured(cart) }),
  'one node': async (lab) => ({ client: await lab.captured(web), server: await lab.captured(api) }),
  'plaintext in': async (lab) => ({ client: lab.net.pod('stranger', '10.1.0.9'), server: await lab.captured(cart) }),
  'plaintext out': async (lab) => ({ client: await lab.captured(web), server: lab.net.pod('stranger', '10.1.0.9') }),
};

/**
 * A port of the server that nobody reaches until it is let through; a SYN is sent again after a second. `knocked` resolves when the first
 * SYN has come: the whole way up to the server has taken the connection.
 */
async function silentPort({ server }: Way) {
  let accepted: Endpoint | undefined;
  const port = await server.serve((socket) => (accepted = new Endpoint(socket)));
  const table = `inet silent${port}`;
  server.netns.nft(
    `table ${table} { chain in { type filter hook input priority -300; tcp dport ${port} tcp flags syn counter drop; }\n}`,
  );
  const list = ['nft', 'list', 'table', ...table.split(' ')] as const;
  return {
    to: { ip: server.ip, port },
    accepted: () => eventually(`a connection to port ${port}`, () => accepted),
    knocked: () =>
      eventually(`a SYN to port ${port}`, async () => !server.netns.exec(...list).includes('packets 0 ') || undefined),
    letThrough: () => server.netns.nft(`delete table ${table}`),
  };
}

for (const backend of BACKENDS)
  for (const [name, make] of Object.entries(WAYS))
    t.test(`${backend}: ${name}`, async (t) => {
      const lab = new MeshLab(t);
      for (const node of ['node-1', 'node-2']) await lab.node(node, { CULVERT_BACKEND: backend });
      await lab.apply(web, api, cart);
      const way = await make(lab);
      const [answered, reset, closed] = [await silentPort(way), await silentPort(way), await silentPort(way)];
      const [asker, quitter, leaver] = (await Promise.all(
        [answered, reset, closed].map(({ to }) => Endpoint.open(way.client, to)),
      )) as [Endpoint, Endpoint, Endpoint];
      for (const { knocked } of [answered, reset, closed]) await knocked();
      asker.socket.end('question');
      quitter.socket.write('never mind');
      quitter.socket.resetAndDestroy();
      leaver.socket.write('and good bye');
      leaver.socket.destroy();
      await sleep(50);
      for (const { letThrough } of [answered, reset, closed]) letThrough();

      const server = await answered.accepted();
      await server.until('end');
      t.equal(server.bytes, 8);
      server.socket.end('answer');
      await asker.until('closed');
      t.same(asker.seen, ['end', 'closed']);
      t.equal(asker.bytes, 6, 'a client that has ended hears the answer');

      const left = await closed.accepted();
      await left.until('end');
      t.equal(left.bytes, 12, 'what was said before a close arrives');
      left.socket.end();

      const given = await reset.accepted();
      await given.until('closed');
      t.notOk(given.seen.includes('end'), 'who gave up has not ended');
      for (const node of lab.nodes.values())
        await eventually(`the end of all connections of ${node.name}`, async () => {
          const opened = await node.metric('istio_tcp_connections_opened_total');
          return opened === (await node.metric('istio_tcp_connections_closed_total')) ? true : undefined;
        });
    });
