// A service bound to a waypoint: the ztunnel of the client tunnels to it with the address that was dialled, and the waypoint's own
// traffic goes on to the pods. The waypoint is a stand-in that tells what it was asked for and goes on by a tunnel of its own.
import { once } from 'node:events';
import t from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { relay } from '#shared/hbone/relay.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import type { Conn } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { Test } from 'tap';
import { presence, aMatch, aPolicy, aService, aWorkload, exact } from '../fixtures/mesh.ts';
import { certificatesOf, MeshLab } from '../harness/mesh-lab.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], services: { cart: { 80: 8080 } } });
const waypointPod = aWorkload('waypoint', { node: 'node-2', ips: ['10.1.0.8'], nativeTunnel: true, services: { waypoint: {} } });
const waypoint = aService('waypoint', { vips: ['10.96.0.8'], ports: { 15_008: 15_008 } });
const service = aService('cart', { vips: ['10.96.0.1'], waypoint: { kind: 'hostname', host: waypoint.key, port: 15_008 } });

/** Serves the waypoint's pod: each tunnel goes on to the cart. Answers with the requests seen. */
async function serveWaypoint(t: Test, lab: MeshLab): Promise<IncomingTunnel[]> {
  const { netns } = lab.pod(waypointPod);
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const certificates = certificatesOf(lab.ca);
  const certificate = await certificates.get(waypointPod.identity);
  const pool = new ConnectionPool({ reactor, certificates, clock: systemClock });
  const seen: IncomingTunnel[] = [];
  const forward = async (tunnel: IncomingTunnel): Promise<void> => {
    seen.push(tunnel);
    const { stream } = await pool.open({
      peer: {
        source: waypointPod.identity,
        accepted: [cart.identity],
        to: { ip: '10.1.0.3', port: 15_008 },
        sourceIp: '10.1.0.8',
      },
      authority: '10.1.0.3:8080',
      headers: [],
      socket: { netns: netns.fd },
    });
    relay(tunnel.accept([]), stream);
  };
  const serve = async (conn: Conn): Promise<void> => {
    const tls = await reactor.tlsServer(conn, { certificate, alpn: ['h2'], verifyPeer: () => undefined });
    serveHbone(tls, { reactor, clock: systemClock }, (tunnel) => void forward(tunnel).catch(() => tunnel.refuse(503)));
  };
  // A client that goes away in the handshake is one of the cases.
  await reactor.listen(
    { netns: netns.fd, address: { ip: '::', port: 15_008 } },
    (conn) => void serve(conn).catch(() => undefined),
  );
  return seen;
}

t.test('client → waypoint → pod: asked for the service address, and the pod sees the waypoint', async (t) => {
  const lab = new MeshLab(t);
  const [one, two] = [await lab.node('node-1'), await lab.node('node-2')];
  await lab.apply(web, cart, waypointPod, waypoint, service);
  const only = aMatch({ principals: [exact('cluster.local/ns/shop/sa/waypoint')] });
  await lab.apply(
    aPolicy('strict', { action: 'Deny', matches: [aMatch({ notPrincipals: [presence] })] }),
    aPolicy('waypoint-only', { matches: [only] }),
  );
  const seen = await serveWaypoint(t, lab);
  const client = await lab.captured(web);
  const server = await lab.captured(cart);
  await server.serve((socket) => socket.on('data', () => socket.end(String(socket.remoteAddress))), 8080);

  const socket = await client.connect({ ip: '10.96.0.1', port: 80 });
  socket.write('hi');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  t.match(answer.toString(), /10\.1\.0\.8$/u);
  socket.end();

  t.equal(seen[0]?.authority, '10.96.0.1:80');
  const headers = new Map(seen[0]?.headers);
  t.match(headers.get('forwarded'), /^for="10\.1\.0\.1:\d+";host=cart\.shop\.svc\.cluster\.local$/u);
  t.match(headers.get('traceparent'), /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/u);
  t.equal(
    headers.get('baggage'),
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,service.version=v1',
  );
  const outbound = await one.line({ direction: 'outbound' });
  t.match(outbound, {
    'dst.addr': '10.1.0.8:15008',
    'dst.hbone_addr': '10.96.0.1:80',
    'dst.identity': waypointPod.identity,
    'dst.service': service.hostname,
  });
  t.match(await two.line({ direction: 'inbound' }), { 'src.identity': waypointPod.identity, 'src.workload': 'waypoint' });

  const direct = await client.connect({ ip: '10.1.0.3', port: 8080 }).catch(() => undefined);
  if (direct) await new Promise((resolve) => direct.once('close', resolve).resume());
  t.match(await two.line({ direction: 'inbound' }), {
    error: /allow policies exist, but none allowed/u,
    'src.identity': web.identity,
  });
});

t.test('a waypoint with somebody else’s certificate gets nothing', async (t) => {
  const lab = new MeshLab(t);
  const one = await lab.node('node-1');
  await lab.node('node-2');
  const other = aWorkload('waypoint', { ...waypointPod, serviceAccount: 'other', services: { waypoint: {} } });
  await lab.apply(web, cart, other, waypoint, service);
  const seen = await serveWaypoint(t, lab);
  const client = await lab.captured(web);
  const socket = await client.connect({ ip: '10.96.0.1', port: 80 }).catch(() => undefined);
  if (socket) await new Promise((resolve) => socket.once('close', resolve).resume());
  t.match(await one.line({ direction: 'outbound' }), { error: /sa\/other.*sa\/waypoint|sa\/waypoint.*sa\/other/u });
  t.equal(await one.metric('istio_tcp_connections_failed_total', 'response_flags="TLS_FAILURE"'), 1);
  t.equal(seen.length, 0);
});
