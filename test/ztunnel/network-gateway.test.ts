// Two networks whose addresses mean nothing to each other: what is beyond is reached by a tunnel through the network gateway, which sees
// neither who calls nor what is said. The gateway is a stand-in that takes tunnels and passes their bytes on to the pod's port 15008.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { relay } from '#shared/hbone/relay.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import type { Conn } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { networkAddress } from '../../ztunnel/state/model.ts';
import { aMatch, aPolicy, aService, aWorkload, exact } from '../fixtures/mesh.ts';
import { revoking } from '../harness/crl.ts';
import type { LabNode } from '../harness/mesh-lab.ts';
import { certificatesOf, eventually, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

const web = aWorkload('web', { network: 'near', node: 'node-1', ips: ['10.1.0.1'] });
const gateway = aWorkload('gateway', { network: 'far', node: 'node-3', ips: ['10.1.0.9'] });
const cart = aWorkload('cart', {
  network: 'far',
  node: 'node-2',
  ips: ['10.1.0.3'],
  services: { cart: { 80: 8080 } },
  networkGateway: { kind: 'address', network: 'far', ip: '10.1.0.9', port: 15_008 },
});
const service = { ...aService('cart', { subjectAltNames: [cart.identity] }), vips: [networkAddress('near', '10.96.0.1')] };
const VIP = { ip: '10.96.0.1', port: 80 };

interface Gateway {
  readonly tunnels: IncomingTunnel[];
  /** Connections taken, and tunnels that go on. */
  readonly counts: { connections: number; open: number };
}

async function serveGateway(t: Test, lab: MeshLab): Promise<Gateway> {
  const { netns } = lab.pod(gateway);
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const certificate = await certificatesOf(lab.ca).get(gateway.identity);
  const tunnels: IncomingTunnel[] = [];
  const counts = { connections: 0, open: 0 };
  const forward = async (tunnel: IncomingTunnel): Promise<void> => {
    tunnels.push(tunnel);
    const pod = await reactor.connect({ netns: netns.fd, to: { ip: '10.1.0.3', port: 15_008 } });
    counts.open += 1;
    await relay(tunnel.accept([]), pod).done;
    counts.open -= 1;
  };
  const serve = async (conn: Conn): Promise<void> => {
    const tls = await reactor.tlsServer(conn, { certificate, alpn: ['h2'], verifyPeer: () => undefined });
    counts.connections += 1;
    serveHbone(tls, { reactor, clock: systemClock }, (tunnel) => void forward(tunnel).catch(() => tunnel.refuse(503)));
  };
  await reactor.listen(
    { netns: netns.fd, address: { ip: '::', port: 15_008 } },
    (conn) => void serve(conn).catch(() => undefined),
  );
  return { tunnels, counts };
}

interface Networks {
  readonly lab: MeshLab;
  /** Of both ztunnels. */
  readonly certificates: CertificateSource;
  readonly near: LabNode;
  readonly far: LabNode;
  readonly client: TestPod;
  readonly server: TestPod;
  readonly beyond: Gateway;
}

/** `env`: of the near ztunnel. */
async function setUp(t: Test, CULVERT_BACKEND: string, env: Record<string, string> = {}): Promise<Networks> {
  const lab = new MeshLab(t);
  const certificates = certificatesOf(lab.ca);
  const near = await lab.node('node-1', { NETWORK: 'near', CULVERT_BACKEND, ...env }, certificates);
  const far = await lab.node('node-2', { NETWORK: 'far', CULVERT_BACKEND }, certificates);
  await lab.apply(web, cart, gateway, service);
  const beyond = await serveGateway(t, lab);
  return { lab, certificates, near, far, beyond, client: await lab.captured(web), server: await lab.captured(cart) };
}

for (const backend of ['native', 'portable']) {
  t.test(`${backend}: through the gateway and back, both ends told with who they are`, async (t) => {
    const { near, far, client, server, beyond } = await setUp(t, backend);
    await server.serve((socket) => socket.pipe(socket), 8080);
    for (const round of [1, 2]) {
      const sent = randomBytes(3 << 20);
      const socket = await client.connect(VIP);
      const hash = createHash('sha256');
      socket.on('data', (chunk) => hash.update(chunk));
      socket.end(sent);
      await once(socket, 'end');
      t.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'), `round ${round}: whole, and half-closed`);
      t.match(await near.line({ direction: 'outbound' }), {
        'src.workload': 'web',
        'src.identity': web.identity,
        'dst.addr': '10.1.0.9:15008',
        'dst.hbone_addr': 'cart.shop.svc.cluster.local:80',
        'dst.service': 'cart.shop.svc.cluster.local',
        'dst.workload': 'cart',
        'dst.identity': cart.identity,
        bytes_sent: sent.length,
        bytes_recv: sent.length,
      });
      const inbound = await far.line({ direction: 'inbound' });
      t.match(inbound, {
        'src.workload': 'web',
        'src.identity': web.identity,
        'dst.workload': 'cart',
        'dst.hbone_addr': 'cart.shop.svc.cluster.local:80',
        'dst.service': 'cart.shop.svc.cluster.local',
      });
      t.notOk(inbound['error']);
    }
    const outer = new Map(beyond.tunnels[0]?.headers);
    t.equal(beyond.tunnels[0]?.authority, 'cart.shop.svc.cluster.local:80');
    t.notOk(outer.has('x-forwarded-network'), 'the network is told inside only');
    t.match(outer.get('baggage'), /k8s\.namespace\.name=shop/u);
    t.equal(beyond.tunnels.length, 2, 'a tunnel for each connection');
    t.equal(beyond.counts.connections, 1, 'over one connection to the gateway');
    await eventually('the ends of the tunnels inside', () => (beyond.counts.open === 0 ? true : undefined));
  });

  t.test(`${backend}: a reset goes through, both ways`, async (t) => {
    const { client, server } = await setUp(t, backend);
    const accepted: Promise<boolean>[] = [];
    await server.serve((socket) => {
      accepted.push(new Promise((resolve) => socket.once('close', resolve)));
      socket.on('data', (chunk) => void (String(chunk) === 'reset me' && socket.resetAndDestroy()));
    }, 8080);
    const one = await client.connect(VIP);
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => one.once('error', resolve));
    one.write('reset me');
    t.equal((await failed).code, 'ECONNRESET');
    const two = await client.connect(VIP);
    two.write('hello');
    await eventually('the second connection', () => (accepted.length === 2 ? true : undefined));
    two.resetAndDestroy();
    t.ok(await accepted[1], 'closed by an error');
  });

  t.test(`${backend}: who may not enter, and who is not whom he should be`, async (t) => {
    const { lab, near, far, client, server } = await setUp(t, backend);
    await server.serve((socket) => socket.pipe(socket), 8080);
    await lab.apply(aPolicy('others', { matches: [aMatch({ principals: [exact('cluster.local/ns/shop/sa/other')] })] }));
    const refused = await client.connect(VIP).catch(() => undefined);
    if (refused) await new Promise((resolve) => refused.once('close', resolve).resume());
    t.match(await far.line({ direction: 'inbound' }), { error: /policy rejection/u, 'src.identity': web.identity });
    t.match(await near.line({ direction: 'outbound' }), { error: /^beyond the network gateway: .*401/u });

    const other = aWorkload('other');
    await lab.change(
      { kind: 'remove-policy', key: 'shop/others' },
      { kind: 'service', service: { ...service, subjectAltNames: [other.identity] } },
    );
    const mistaken = await client.connect(VIP).catch(() => undefined);
    if (mistaken) await new Promise((resolve) => mistaken.once('close', resolve).resume());
    t.match(await near.line({ direction: 'outbound' }), {
      error: /^beyond the network gateway: .*expected SAN \(.*sa\/other\), got .*sa\/cart/u,
    });
    t.equal(await near.metric('istio_tcp_connections_failed_total', 'response_flags="TLS_FAILURE"'), 1);
  });
}

t.test('a host that the mesh knows by name only', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1', { NETWORK: 'near' });
  const host = aWorkload('host', {
    network: 'near',
    ips: [],
    hostname: 'localhost',
    protocol: 'TCP',
    services: { cart: { 80: 9090 } },
  });
  const lost = aWorkload('lost', { network: 'near', ips: [], hostname: 'lost.invalid', services: { lost: { 80: 9090 } } });
  const gone = { ...aService('lost'), vips: [networkAddress('near', '10.96.0.2')] };
  await lab.apply(web, host, service, lost, gone);
  const client = await lab.captured(web);
  await client.serve((socket) => socket.pipe(socket), 9090);
  const socket = await client.connect(VIP);
  socket.write('hello');
  t.equal(String(((await once(socket, 'data')) as [Buffer])[0]), 'hello');
  socket.end();
  t.match(await node.line({ direction: 'outbound' }), { 'dst.addr': '127.0.0.1:9090', 'dst.workload': 'host' });
  t.equal(await node.metric('istio_on_demand_dns_total', 'source_workload="web"'), 1);
  t.equal(await node.metric('istio_on_demand_dns_total', 'hostname="localhost"'), 1);
  const failed = await client.connect({ ip: '10.96.0.2', port: 80 }).catch(() => undefined);
  if (failed) await new Promise((resolve) => failed.once('close', resolve).resume());
  t.match(await node.line({ direction: 'outbound' }), {
    error: /^the host lost\.invalid has no address: /u,
    'dst.service': 'lost.shop.svc.cluster.local',
  });
});

for (const backend of ['native', 'portable'])
  t.test(
    `${backend}: who answers inside is revoked: the tunnel inside ends, and the connection to the gateway stays`,
    async (t) => {
      const file = join(t.testdir({ 'crl.pem': '' }), 'crl.pem');
      const { lab, near, client, server, beyond, certificates } = await setUp(t, backend, { CRL_PATH: file });
      await server.serve((socket) => void socket.pipe(socket), 8080);
      const socket = await client.connect(VIP);
      socket.on('error', () => undefined);
      socket.write('hello');
      await once(socket, 'data');
      writeFileSync(file, revoking(lab.ca, (await certificates.get(cart.identity)).chain));
      await eventually('the end of the connection', () => socket.closed || undefined);
      await near.line({
        direction: 'outbound',
        error: 'connection closed: peer certificate revoked by CRL',
        'dst.identity': cart.identity,
      });
      t.equal(await near.metric('istio_crl_policy_rejections_total', 'reporter="source"'), 1);
      await eventually('the end of the tunnel at the gateway', () => (beyond.counts.open === 0 ? true : undefined));
      const next = await client.connect(VIP);
      next.on('error', () => undefined).resume();
      await eventually('the refusal', () => next.closed || undefined);
      t.match(await near.line({ direction: 'outbound' }), { error: /beyond the network gateway: .*revoked by CRL/u });
      t.equal(await near.metric('istio_crl_policy_rejections_total', 'reporter="source"'), 2);
      t.equal(beyond.counts.connections, 1, 'the gateway itself is trusted all the while');
    },
  );
