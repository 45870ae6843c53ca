// Twenty connections between two pods whose receiver never reads, beside others: the others are served, the stalled ones cost no CPU and a
// bounded amount of memory, and end when they are closed.
import type { Socket } from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { eventually } from '../harness/mesh-lab.ts';
import { ZtunnelProcesses } from '../harness/ztunnel-processes.ts';

const STALLED = 20;
const PROBES = 5;
const MiB = 1 << 20;
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

/** Writes until nothing more is taken for a while. */
async function fill(sockets: readonly Socket[]): Promise<void> {
  const block = Buffer.alloc(256 * 1024);
  const left = (): number => sockets.reduce((sum, socket) => sum + socket.bytesWritten - socket.writableLength, 0);
  for (let still = 0, before = -1; still < 10;) {
    for (const socket of sockets) if (socket.writableLength < block.length) socket.write(block);
    await sleep(20);
    const now = left();
    still = now === before ? still + 1 : 0;
    before = now;
  }
}

for (const [way, to] of Object.entries({ 'a tunnel': cart, 'one node': api }))
  for (const side of ['server', 'client'] as const)
    t.test(`${way}: the ${side} of ${STALLED} connections does not read`, async (t) => {
      const lab = new ZtunnelProcesses(t, [web, api, cart]);
      const nodes = [await lab.node('node-1'), await lab.node('node-2')];
      const [client, server] = [await lab.captured(web), await lab.captured(to)];
      const accepted: Socket[] = [];
      const port = await server.serve((socket) => {
        socket.pause();
        accepted.push(socket);
      });
      const before = await Promise.all(nodes.map((node) => node.usage()));
      const opened = await Promise.all(Array.from({ length: STALLED }, () => client.connect({ ip: server.ip, port })));
      await eventually('the connections', () => (accepted.length === STALLED ? true : undefined));
      for (const socket of opened) socket.pause();
      await fill(side === 'server' ? opened : accepted);

      const full = await Promise.all(nodes.map((node) => node.usage()));
      await sleep(500);
      for (const [i, { cpu }] of (await Promise.all(nodes.map((node) => node.usage()))).entries()) {
        const busy = cpu - (full[i]?.cpu ?? 0);
        t.ok(busy < 250_000, `${Math.round(busy / 1000)} ms of CPU in 500 ms at node-${i + 1}`);
      }
      const anonymous = (usages: typeof full): number => usages.reduce((sum, usage) => sum + usage.anonymous, 0);
      const held = (anonymous(full) - anonymous(before)) / STALLED;
      t.ok(held < 2 * MiB, `${Math.round(held / 1024)} KiB of anonymous memory for each, with what else has come and gone`);

      const echo = await server.serve((socket) => void socket.pipe(socket));
      const probe = async (): Promise<number> => {
        const socket = await client.connect({ ip: server.ip, port: echo });
        let slowest = 0;
        for (let i = 0; i < 20; i++) {
          const started = performance.now();
          socket.write('?');
          await once(socket, 'data');
          slowest = Math.max(slowest, performance.now() - started);
        }
        return slowest;
      };
      const slowest = Math.max(...(await Promise.all(Array.from({ length: PROBES }, probe))));
      t.ok(slowest < 500, `${PROBES} probes were answered, the slowest after ${Math.round(slowest)} ms`);

      for (const socket of [...opened, ...accepted]) socket.resetAndDestroy();
      for (const node of nodes)
        await eventually('the end of the stalled ones', async () => {
          const [open, closed] = [
            await node.metric('istio_tcp_connections_opened_total'),
            await node.metric('istio_tcp_connections_closed_total'),
          ];
          return open - closed <= 2 * PROBES ? true : undefined;
        });
    });
