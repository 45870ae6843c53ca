// Clients that are slow, silent or speak something else on the port of tunnels: each is given up after a while, and nobody waits for them.
import type { Socket } from 'node:net';
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { eventually, MeshLab } from '../../harness/mesh-lab.ts';
import { drip, probes } from '../../harness/slow-peers.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

t.test('clients that never complete a handshake', async (t) => {
  const SILENT = 100;
  const lab = new MeshLab(t);
  await lab.node('node-1');
  const far = await lab.node('node-2');
  await lab.apply(web, cart);
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  const port = await server.serve((socket) => void socket.pipe(socket));
  const stranger = lab.net.pod('stranger', '10.1.0.99');
  const dial = (): Promise<Socket> => stranger.connect({ ip: server.ip, port: 15_008 });
  const sockets = await Promise.all(Array.from({ length: SILENT }, dial));
  for (const socket of sockets) socket.resume();
  const dripping = await dial();
  drip(dripping);
  const foreign = await dial();
  foreign.end('GET / HTTP/1.1\r\nHost: cart\r\n\r\n');
  const done = new AbortController();
  const served = probes(client, { ip: server.ip, port }, done.signal);
  const all = [...sockets, dripping.resume(), foreign.resume()];
  await eventually('all of them to be closed', () =>
    all.every((socket) => socket.destroyed || socket.readableEnded) ? true : undefined,
  );
  done.abort();
  const slowest = await served;
  t.ok(slowest < 1000, `others are served meanwhile, the slowest answer took ${Math.round(slowest)} ms`);
  const refused = far.lines.filter((line) => line['message'] === 'connection failed');
  t.equal(refused.length, all.length, 'each has its line');
  t.match(refused[0], { level: 'warn', direction: 'inbound', 'dst.identity': cart.identity, error: /tls handshake error/u });
  t.equal(await far.metric('istio_tcp_connections_opened_total', 'reporter="destination"'), 1, 'none was taken for a connection');
});
