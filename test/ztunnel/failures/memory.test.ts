// Two hundred receivers that do not read, all at once, and again: what a ztunnel holds for each is bounded, others are served, and nothing
// is left over that the next time would add to.
import type { Socket } from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { eventually } from '../../harness/mesh-lab.ts';
import { ZtunnelProcesses } from '../../harness/ztunnel-processes.ts';

t.setTimeout(60_000);

const STALLED = 200;
const MiB = 1 << 20;
/** For each of them, with what comes and goes: a window's share, and what the application's socket did not take. */
const EACH = 0.75 * MiB;
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

t.test(`${STALLED} stalled receivers`, async (t) => {
  const lab = new ZtunnelProcesses(t, [web, cart]);
  const nodes = [await lab.node('node-1'), await lab.node('node-2')];
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  // What the kernel holds is not the question, and is more than a machine should be asked for.
  for (const { netns } of [client, server])
    for (const name of ['tcp_rmem', 'tcp_wmem']) netns.exec('sysctl', '-q', '-w', `net.ipv4.${name}=4096 16384 65536`);
  const accepted: Socket[] = [];
  const port = await server.serve((socket) => accepted.push(socket.pause()));
  const echo = await server.serve((socket) => void socket.pipe(socket));
  const memory = (): Promise<number[]> => Promise.all(nodes.map(async (node) => (await node.usage()).anonymous));
  const before = await memory();
  const peaks: number[][] = [];

  for (const time of ['first', 'second']) {
    const opened = await Promise.all(Array.from({ length: STALLED }, () => client.connect({ ip: server.ip, port })));
    await fill(opened);
    const full = await memory();
    peaks.push(full);
    for (const [i, held] of full.entries()) {
      const each = (held - (before[i] ?? 0)) / STALLED;
      t.ok(each < EACH, `the ${time} time node-${i + 1} holds ${Math.round(each / 1024)} KiB for each`);
    }
    const probe = await client.connect({ ip: server.ip, port: echo });
    const asked = performance.now();
    probe.write('?');
    await once(probe, 'data');
    t.ok(performance.now() - asked < 1000, 'another connection is served');
    for (const socket of [...opened, ...accepted.splice(0), probe]) socket.resetAndDestroy();
    for (const node of nodes)
      await eventually('their end', async () => {
        const [open, closed] = ['opened', 'closed'].map((what) => node.metric(`istio_tcp_connections_${what}_total`));
        return (await open) === (await closed) ? true : undefined;
      });
  }
  const [first = [], second = []] = peaks;
  for (const [i, peak] of second.entries()) {
    const more = (peak - (first[i] ?? 0)) / MiB;
    t.ok(more < 32, `the second time took ${Math.round(more)} MiB more than the first at node-${i + 1}`);
  }
});

/** Writes until nothing more is taken. */
async function fill(sockets: readonly Socket[]): Promise<void> {
  const block = Buffer.alloc(64 * 1024);
  for (const socket of sockets) {
    const more = (): void => {
      while (socket.writable && socket.write(block));
    };
    socket.on('drain', more);
    more();
  }
  const taken = (): number => sockets.reduce((sum, { bytesWritten, writableLength }) => sum + bytesWritten - writableLength, 0);
  for (let last = -1; last !== taken(); await sleep(500)) last = taken();
}
