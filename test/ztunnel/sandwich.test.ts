// A waypoint that speaks no HBONE itself and stands behind a ztunnel: tunnels for the service end at that ztunnel, which hands them to the
// waypoint, with a PROXY header or as plain bytes; what the waypoint sends on goes out through the same ztunnel as its own.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { aMatch, aPolicy, aService, aWorkload, exact } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { type LabNode, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { parseProxyHeader, type ReceivedHeader } from '../harness/proxy-header.ts';
import type { Workload } from '../../ztunnel/state/model.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-1', ips: ['10.1.0.3'], services: { cart: { 80: 8080 } } });
const waypoint = (ports: Record<number, number>) => aService('waypoint', { vips: ['10.96.0.8'], ports });
const service = aService('cart', { vips: ['10.96.0.1'], waypoint: { kind: 'hostname', host: waypoint({}).key, port: 15_008 } });
const VIP = { ip: '10.96.0.1', port: 80 };

interface Sandwich {
  readonly one: LabNode;
  readonly two: LabNode;
  readonly client: TestPod;
  readonly waypointPod: Workload;
  readonly pod: TestPod;
}

async function setUp(
  t: Test,
  applicationTunnel: NonNullable<Workload['applicationTunnel']>,
  ports: Record<number, number>,
): Promise<Sandwich> {
  const waypointPod = aWorkload('waypoint', { node: 'node-2', ips: ['10.1.0.8'], services: { waypoint: {} }, applicationTunnel });
  const lab = new MeshLab(t);
  const [one, two] = [await lab.node('node-1'), await lab.node('node-2')];
  const principals = [exact('cluster.local/ns/shop/sa/waypoint')];
  const selected = { scope: 'WorkloadSelector', matches: [aMatch({ principals })] } as const;
  const guarded = aWorkload('cart', { ...cart, services: { cart: { 80: 8080 } }, authorizationPolicies: ['shop/only'] });
  await lab.apply(web, guarded, waypointPod, waypoint(ports), service, aPolicy('only', selected));
  const [client, server, pod] = [await lab.captured(web), await lab.captured(guarded), await lab.captured(waypointPod)];
  await server.serve((socket) => void socket.pipe(socket), 8080);
  return { one, two, client, waypointPod, pod };
}

/** What stands in the waypoint: joins the client to the cart. */
async function forward(pod: TestPod, client: Socket): Promise<void> {
  const upstream = await pod.connect({ ip: '10.1.0.3', port: 8080 });
  client.pipe(upstream).pipe(client);
}

async function talk(client: TestPod): Promise<void> {
  const end = await Endpoint.open(client, VIP);
  end.socket.write('hello');
  await end.untilBytes(5);
  end.socket.end();
  await end.until('closed');
}

async function wayThere(t: Test, { one, two, waypointPod }: Sandwich): Promise<void> {
  t.match(await one.line({ direction: 'outbound' }), {
    'dst.addr': '10.1.0.8:15008',
    'dst.hbone_addr': '10.96.0.1:80',
    'dst.identity': waypointPod.identity,
    bytes_sent: 5,
    bytes_recv: 5,
  });
  t.match(await two.line({ direction: 'inbound' }), { 'src.identity': web.identity, 'dst.workload': 'waypoint' });
  t.match(await one.line({ direction: 'inbound' }), {
    'src.identity': waypointPod.identity,
    'dst.workload': 'cart',
    level: 'info',
  });
}

t.test('with a PROXY header, the service of the waypoint without ports', async (t) => {
  const mesh = await setUp(t, { protocol: 'PROXY', port: 15_088 }, {});
  let header: ReceivedHeader | undefined;
  await mesh.pod.serve((socket) => {
    void once(socket, 'data').then(([chunk]) => {
      header = parseProxyHeader(chunk as Buffer);
      socket.pause();
      if (header?.rest) socket.unshift(Buffer.from(header.rest));
      return forward(mesh.pod, socket);
    });
  }, 15_088);
  await talk(mesh.client);
  t.match(header, { source: '10.1.0.1', destination: '10.96.0.1', port: 80, tlvs: { '0xd0': web.identity } });
  await wayThere(t, mesh);
});

t.test('as plain bytes, on the port that was dialled', async (t) => {
  const mesh = await setUp(t, { protocol: 'NONE' }, { 15_008: 15_008 });
  const clients: string[] = [];
  await mesh.pod.serve((socket) => {
    clients.push(socket.remoteAddress?.replace('::ffff:', '') ?? '');
    socket.pause();
    void forward(mesh.pod, socket);
  }, 80);
  await talk(mesh.client);
  t.same(clients, ['10.1.0.1'], 'from the address of the client');
  await wayThere(t, mesh);
});
