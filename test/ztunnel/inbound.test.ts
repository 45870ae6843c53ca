// A peer that speaks HBONE itself, from a pod that is not enrolled: what it gets from port 15008, and what it does not.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import type { HeaderList } from '#shared/hbone/api.ts';
import { spiffeId } from '#shared/ids.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aService, aWorkload } from '../fixtures/mesh.ts';
import type { TunnelRequest } from '../harness/hbone-peer.ts';
import { hbonePeer, PEER } from '../harness/hbone-peer.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import { dialTls, sessionOver } from '../harness/node-http2.ts';
import { createTestCa } from '../harness/test-ca.ts';

const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], services: { cart: { 80: 8080 } } });

async function setUp(t: Test, env: Record<string, string> = {}) {
  const lab = new MeshLab(t);
  const node = await lab.node('node-2', env);
  await lab.apply(cart, aService('cart'));
  const server = await lab.captured(cart);
  await server.serve((socket) => socket.on('data', (chunk) => socket.end(chunk)), 8080);
  const stranger = hbonePeer(t, lab, cart, '10.1.0.9');
  const open = (authority: string, more: Omit<TunnelRequest, 'authority'> = {}) => stranger.open({ authority, ...more });
  return { node, open, pool: () => stranger.pool, dial: () => stranger.dial() };
}

t.test('a tunnel to the pod: 200 with its baggage; the line has what the peer says of itself', async (t) => {
  const { node, open } = await setUp(t);
  const baggage: HeaderList = [
    ['baggage', 'k8s.namespace.name=far,k8s.deployment.name=dep,service.name=svc,k8s.cluster.name=c2'],
    ['forwarded', 'for="10.9.9.9:1";host=cart.shop.svc.cluster.local'],
  ];
  const tunnel = await open('10.1.0.3:8080', { headers: baggage });
  t.match(new Map(tunnel.headers).get('baggage'), /k8s\.deployment\.name=cart/u);
  const answer = Promise.withResolvers<string>();
  tunnel.stream.start({
    onData: (chunk) => answer.resolve(Buffer.from(chunk).toString()),
    onEnd: () => tunnel.stream.end(),
    onDrain: () => undefined,
    onClose: () => undefined,
  });
  tunnel.stream.write(Buffer.from('hello'));
  t.equal(await answer.promise, 'hello');
  t.match(await node.line({ direction: 'inbound' }), {
    'src.identity': PEER,
    'src.workload': 'svc',
    'src.namespace': 'far',
    'src.cluster': 'c2',
    'dst.service': 'cart.shop.svc.cluster.local',
  });
  await open('cart.shop.svc.cluster.local:80');
});

for (const [authority, status, error] of [
  ['10.1.0.77:8080', 400, 'ip mismatch: 10.1.0.77 != 10.1.0.3'],
  ['no-port', 400, '"no-port" is not an authority like HOST:PORT'],
  ['nobody.example:80', 503, 'no service or workload for hostname nobody.example'],
  ['cart.shop.svc.cluster.local:81', 503, 'requested service cart.shop.svc.cluster.local:81 found, but cannot resolve port'],
  ['10.1.0.3:15006', 503, 'attempted recursive call to ourselves'],
] as const) {
  t.test(`CONNECT ${authority}: ${status}`, async (t) => {
    const { node, open } = await setUp(t);
    await t.rejects(open(authority), {
      code: status === 503 ? 'tunnel_unavailable' : 'tunnel_refused',
      message: new RegExp(String(status), 'u'),
    });
    await node.line({ message: 'connection failed', level: 'warn', error });
  });
}

for (const backend of BACKENDS)
  t.test(`${backend}: what is no CONNECT is answered 400, and the connection serves on`, async (t) => {
    const lab = new MeshLab(t);
    const node = await lab.node('node-2', { CULVERT_BACKEND: backend });
    await lab.apply(cart, aService('cart'));
    const server = await lab.captured(cart);
    let connections = 0;
    await server.serve((socket) => void (connections++, socket.end()), 8080);
    const session = sessionOver(t, await dialTls(lab.net.pod('stranger', '10.1.0.9'), '10.1.0.3', lab.ca.issue(PEER)));
    const status = async (headers: Record<string, string>, ends: boolean): Promise<unknown> => {
      const stream = session.request(headers, { endStream: ends });
      const [answer] = (await once(stream, 'response')) as [Record<string, unknown>];
      stream.resume();
      if (!stream.closed) await once(stream, 'close');
      return answer[':status'];
    };
    const common = { ':scheme': 'https', ':authority': '10.1.0.3:8080', ':path': '/' };
    for (const method of ['GET', 'POST', 'OPTIONS']) t.equal(await status({ ...common, ':method': method }, true), 400, method);
    t.equal(await status({ ...common, ':method': 'POST' }, false), 400, 'a request whose body is still to come');
    t.equal(connections, 0);
    t.equal(await status({ ':method': 'CONNECT', ':authority': '10.1.0.3:8080' }, true), 200);
    t.equal(connections, 1);
    t.equal(await node.metric('istio_tcp_connections_opened_total'), 1, 'nor were they connections');
  });

t.test('who is not of the mesh does not get past the handshake', async (t) => {
  const { node, open } = await setUp(t);
  const foreign = spiffeId({ trustDomain: 'elsewhere', namespace: 'shop', serviceAccount: 'peer' });
  await t.rejects(open('10.1.0.3:8080', { identity: foreign }));
  t.match(await node.line({ message: 'connection failed' }), {
    error:
      'identity verification error: peer did not present the expected trustdomain (cluster.local), got spiffe://elsewhere/ns/shop/sa/peer',
    'src.identity': foreign,
    'dst.identity': cart.identity,
  });
  await t.rejects(open('10.1.0.3:8080', { ca: createTestCa('another root') }));
  t.match(await node.line({ message: 'connection failed' }), { 'src.addr': /^10\.1\.0\.9:/u, direction: 'inbound' });
  t.equal(await node.metric('istio_tcp_connections_opened_total'), 0);
});

t.test('many tunnels of one connection at a time', async (t) => {
  const { node, open, pool } = await setUp(t);
  const tunnels = await Promise.all(Array.from({ length: 50 }, () => open('10.1.0.3:8080')));
  t.equal(pool().size, 1);
  t.equal(await node.metric('istio_tcp_sockets_open', 'reporter="destination"'), 50);
  for (const { stream } of tunnels) {
    stream.start({ onData: () => undefined, onEnd: () => undefined, onDrain: () => undefined, onClose: () => undefined });
    stream.reset();
  }
  for (let i = 0; i < 50; i++) await node.line({ direction: 'inbound', level: 'info' });
  t.equal(await node.metric('istio_tcp_sockets_open', 'reporter="destination"'), 0);
});

t.test('no more than the limit: the rest is refused and counted, and served when there is room', async (t) => {
  const { node, open } = await setUp(t, { MAX_CONNECTIONS: '4' });
  const tunnels = await Promise.all([1, 2, 3].map(() => open('10.1.0.3:8080')));
  await t.rejects(open('10.1.0.3:8080'), { message: /503/u }, 'one connection and three tunnels are four');
  await node.line({ message: 'connection failed', error: 'too many connections: 4 are open (MAX_CONNECTIONS)' });
  t.equal(await node.metric('culvert_connections_shed_total', 'listener="tunnel"'), 1);
  tunnels[0]?.stream.start({
    onData: () => undefined,
    onEnd: () => undefined,
    onDrain: () => undefined,
    onClose: () => undefined,
  });
  tunnels[0]?.stream.reset();
  await node.line({ message: 'connection complete' });
  await open('10.1.0.3:8080');
});

t.test(
  'no more handshakes in a second than the rate: the rest is refused and counted, and what comes later is served',
  async (t) => {
    const { node, open, dial } = await setUp(t, { MAX_HANDSHAKE_RATE: '3' });
    const { stream } = await open('10.1.0.3:8080');
    const dialled = Array.from({ length: 20 }, dial);
    const refused = await eventually('refusals', () => {
      const closed = dialled.filter((socket) => socket.resume().closed);
      return closed.length >= 12 ? closed.length : undefined;
    });
    t.ok(refused < 20, 'six at once have their turn, and what comes meanwhile');
    t.equal(await node.metric('culvert_connections_shed_total', 'listener="hbone",reason="handshakes"'), refused);
    await node.line({ message: 'connection failed', error: 'too many handshakes at a time (MAX_HANDSHAKE_RATE)' });
    stream.start({ onData: () => undefined, onEnd: () => stream.end(), onDrain: () => undefined, onClose: () => undefined });
    stream.write(Buffer.from('still served'));
    await node.line({ message: 'connection complete', direction: 'inbound' });

    await eventually('a handshake that is served', async () => {
      // Another identity has a connection of its own.
      const late = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'late' });
      return await open('10.1.0.3:8080', { identity: late }).then(
        () => true,
        () => undefined,
      );
    });
  },
);

t.test('what came along with the request gets to an application that reads slowly, whole and in order', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-2', { CULVERT_BACKEND: 'native' });
  await lab.apply(cart, aService('cart'));
  const server = await lab.captured(cart);
  for (const name of ['tcp_rmem', 'tcp_wmem']) server.netns.exec('sysctl', '-q', '-w', `net.ipv4.${name}=4096 8192 16384`);
  const got: Buffer[] = [];
  const app = Promise.withResolvers<Socket>();
  await server.serve((socket) => {
    socket.pause();
    app.resolve(socket);
  }, 8080);
  const session = sessionOver(t, await dialTls(lab.net.pod('stranger', '10.1.0.9'), '10.1.0.3', lab.ca.issue(PEER)));
  await once(session, 'remoteSettings');
  // All of it is sent before an answer can come; sockets take a tenth.
  const bytes = randomBytes(180_000);
  const stream = session.request({ ':method': 'CONNECT', ':authority': '10.1.0.3:8080' }, { endStream: false });
  stream.end(bytes);
  const socket = await app.promise;
  await sleep(200);
  socket.on('data', (chunk: Buffer) => void got.push(chunk));
  socket.resume();
  await once(socket, 'end');
  t.ok(Buffer.concat(got).equals(bytes), `${Buffer.concat(got).length} bytes`);
  socket.end('thanks');
  t.equal(Buffer.concat(await stream.toArray()).toString(), 'thanks');
  t.match(await node.line({ direction: 'inbound' }), { bytes_recv: bytes.length, bytes_sent: 6 });
});
