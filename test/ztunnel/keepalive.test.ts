// The kernel watches the peers of all three ports of a pod, so that one that is gone without a word leaves nothing behind.
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { PORT } from '#shared/ports.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-1', ips: ['10.1.0.3'] });

t.test('connections that were accepted have keep-alive of the kernel', async (t) => {
  const lab = new MeshLab(t);
  await lab.node('node-1', { KEEPALIVE_TIME: '33s', SAME_NODE: 'hbone' });
  await lab.apply(web, cart);
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  const port = await server.serve((socket) => void socket.pipe(socket));
  const stranger = lab.net.pod('stranger', '10.1.0.9');
  // Through a tunnel, and in the clear; the third one never says a word, not even of TLS.
  await client.connect({ ip: '10.1.0.3', port });
  await stranger.connect({ ip: '10.1.0.3', port });
  await stranger.connect({ ip: '10.1.0.3', port: PORT.hbone });

  /** The keep-alive timer of each accepted connection at the port. */
  const timers = ({ netns }: typeof client, at: number): string[] =>
    execFileSync('ip', ['netns', 'exec', netns.name, 'ss', '-Htno', 'state', 'established', 'sport', '=', `:${at}`], {
      encoding: 'utf8',
    })
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => /timer:\(keepalive,([^,]*),/u.exec(line)?.[1] ?? `none: ${line}`);
  for (const [pod, at, count] of [
    [client, PORT.outbound, 1],
    [server, PORT.inboundPlaintext, 1],
    [server, PORT.hbone, 2],
  ] as const) {
    const found = await eventually(`${count} connections at ${at}`, () => {
      const all = timers(pod, at);
      // A segment on its way has a timer of its own for a moment.
      return all.length === count && !all.some((each) => each.includes('timer:(on')) ? all : undefined;
    });
    for (const timer of found) t.match(timer, /^(?:3[0-3]|[12]\d)sec$/u, `port ${at}: ${timer}`);
  }
});
