// MAX_TUNNEL_AGE on either side: what is open goes on, what is new gets a tunnel on another connection.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import { PORT } from '#shared/ports.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

for (const limited of ['node-1', 'node-2']) {
  t.test(`the connection is too old for ${limited}`, async (t) => {
    const lab = new MeshLab(t);
    for (const name of ['node-1', 'node-2']) await lab.node(name, name === limited ? { MAX_TUNNEL_AGE: '2s' } : {});
    await lab.apply(web, cart);
    const [client, server] = [await lab.captured(web), await lab.captured(cart)];
    const to = { ip: '10.1.0.3', port: await server.serve((socket) => void socket.pipe(socket)) };
    const open = async () => {
      const socket = await client.connect(to);
      await answer(socket);
      return socket;
    };
    const carriers = (): number =>
      execFileSync('ip', [
        'netns',
        'exec',
        server.netns.name,
        'ss',
        '-Htn',
        'state',
        'established',
        'sport',
        '=',
        `:${PORT.hbone}`,
      ])
        .toString()
        .split('\n')
        .filter((line) => line !== '').length;

    const old = await open();
    t.equal(carriers(), 1);
    await eventually('another connection', async () => {
      (await open()).destroy();
      return carriers() === 2 ? true : undefined;
    });
    await answer(old);
    t.equal(old.destroyed, false);
    old.destroy();
    await eventually('the end of the old one', () => (carriers() < 2 ? true : undefined));
  });
}

async function answer(socket: Socket): Promise<void> {
  socket.write('?');
  await once(socket, 'data');
}
