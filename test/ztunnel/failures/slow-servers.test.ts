// Servers that are slow, silent or speak something else on the port of tunnels: each is given up after a while, and nobody waits for them.
import type { Socket } from 'node:net';
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { MeshLab } from '../../harness/mesh-lab.ts';
import { drip, probes } from '../../harness/slow-peers.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const FILTER =
  'add table inet f\nadd chain inet f c { type filter hook input priority 0; }\nadd rule inet f c tcp dport 15008 drop\n';

interface Kind {
  readonly answer: (socket: Socket) => void;
  readonly error: RegExp;
  readonly flag: string;
}

const PEERS: Record<string, Kind> = {
  silent: { answer: (socket) => socket.resume(), error: /not complete after 10000 ms/u, flag: 'TLS_FAILURE' },
  dripping: { answer: drip, error: /tls handshake error/u, flag: 'TLS_FAILURE' },
  foreign: {
    answer: (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'),
    error: /tls handshake error/u,
    flag: 'TLS_FAILURE',
  },
  leaving: { answer: (socket) => socket.destroy(), error: /tls handshake error/u, flag: 'TLS_FAILURE' },
  resetting: {
    answer: (socket) => socket.once('data', () => socket.resetAndDestroy()),
    error: /tls handshake error/u,
    flag: 'TLS_FAILURE',
  },
  filtered: { answer: () => undefined, error: /maybe a NetworkPolicy is blocking HBONE port 15008/u, flag: 'NETWORK_POLICY' },
};
const workloads = Object.keys(PEERS).map((name, i) => aWorkload(name, { node: 'node-9', ips: [`10.1.0.${20 + i}`] }));

t.test('servers that never complete a handshake', async (t) => {
  const lab = new MeshLab(t);
  const near = await lab.node('node-1');
  await lab.node('node-2');
  await lab.apply(web, cart, ...workloads);
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  const port = await server.serve((socket) => void socket.pipe(socket));
  for (const workload of workloads) {
    const pod = lab.pod(workload);
    if (workload.name === 'filtered') pod.netns.nft(FILTER);
    await pod.serve(PEERS[workload.name]?.answer ?? (() => undefined), 15_008);
  }
  const done = new AbortController();
  const served = probes(client, { ip: server.ip, port }, done.signal);
  const started = performance.now();
  await Promise.all(
    workloads.map(async ({ name, ips: [ip = ''], identity }) => {
      const end = await Endpoint.open(client, { ip, port: 8080 });
      end.socket.write('hello');
      const line = await near.line({ 'dst.workload': name, message: 'connection complete' });
      const { error, flag } = PEERS[name] ?? {};
      t.match(line['error'], error, `${name}: ${line['error']} after ${line['duration']}`);
      await end.until('closed');
      t.same(end.seen, ['reset', 'closed'], `the client of ${name} is told`);
      const failed = await near.metric('istio_tcp_connections_failed_total', `destination_workload="${name}"`);
      t.equal(failed, 1);
      t.ok((await near.metric('istio_tcp_connections_failed_total', `response_flags="${flag}"`)) >= 1, `${flag} for ${identity}`);
    }),
  );
  t.ok(performance.now() - started < 20_000);
  done.abort();
  const slowest = await served;
  t.ok(slowest < 1000, `others are served meanwhile, the slowest answer took ${Math.round(slowest)} ms`);
  t.equal(await near.metric('istio_tcp_sockets_open', 'reporter="source"'), 1, 'only the probe is left');
});
