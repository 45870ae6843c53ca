// Applications that say how they want to get what comes out of tunnels: with a PROXY header on loopback, or as plain bytes wherever the
// tunnel was meant to go (facts: ztunnel 4). What is asserted is what the application reads, byte by byte.
import type { Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import type { Tunnel } from '#shared/hbone/api.ts';
import { aMatch, aPolicy, aService, aWorkload } from '../fixtures/mesh.ts';
import { hbonePeer, PEER } from '../harness/hbone-peer.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import { parseProxyHeader, type ReceivedHeader } from '../harness/proxy-header.ts';
import type { Service, Workload } from '../../ztunnel/state/model.ts';

const IPS = ['10.1.0.3', 'fd00:1::3'];
const PEER_IPS = ['10.1.0.9', 'fd00:1::9'];
const HOST = 'cart.shop.svc.cluster.local';

interface Way {
  readonly tunnel: NonNullable<Workload['applicationTunnel']>;
  readonly env?: Record<string, string>;
  readonly service?: Service;
  readonly authority: string;
  readonly ip?: string;
  /** Where the application listens. */
  readonly port: number;
}

interface Seen {
  /** Who the application is connected to, and at which of its addresses. */
  readonly peer: string;
  readonly local: string;
  /** All that it read so far. */
  readonly bytes: () => Buffer;
  readonly end: () => void;
}

/** Opens a tunnel; what the application sees of it before the peer has said anything. */
async function open(t: Test, { tunnel, env = {}, service, authority, ip, port }: Way): Promise<[Tunnel, Seen]> {
  const cart = aWorkload('cart', { node: 'node-2', ips: IPS, services: { cart: { 80: 8080 } }, applicationTunnel: tunnel });
  const lab = new MeshLab(t);
  await lab.node('node-2', env);
  await lab.apply(cart, service ?? aService('cart'));
  const pod = await lab.captured(cart);
  const accepted = Promise.withResolvers<Socket>();
  await pod.serve(accepted.resolve, port);
  const peer = hbonePeer(t, lab, cart, ...PEER_IPS);
  const opened = await peer.open({ authority, ...(ip === undefined ? {} : { ip }) });
  const socket = await accepted.promise;
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const plain = (address: string | undefined): string => (address ?? '').replace('::ffff:', '');
  return [
    opened,
    {
      peer: plain(socket.remoteAddress),
      local: plain(socket.localAddress),
      bytes: () => Buffer.concat(chunks),
      end: () => socket.end(),
    },
  ];
}

/** The header comes alone; then a word through the tunnel and its end, which must come behind it. */
async function headerAndData(t: Test, [tunnel, seen]: [Tunnel, Seen]): Promise<ReceivedHeader> {
  const header = await eventually('the PROXY header', () => parseProxyHeader(seen.bytes()));
  t.equal(header.rest, '', 'the header comes before the peer has sent anything');
  say(tunnel, 'hello');
  await eventually('the data behind it', () => parseProxyHeader(seen.bytes())?.rest === 'hello' || undefined);
  seen.end();
  return header;
}

function say({ stream }: Tunnel, text: string): void {
  stream.start({ onData: () => undefined, onEnd: () => stream.end(), onDrain: () => undefined, onClose: () => undefined });
  stream.write(Buffer.from(text));
}

const PROXY = { protocol: 'PROXY', port: 15_088 } as const;

t.test('PROXY: on loopback, behind a header that says who calls and where it meant to go', async (t) => {
  const way = await open(t, { tunnel: PROXY, authority: '10.7.7.7:80', port: 15_088 });
  t.same([way[1].peer, way[1].local], ['127.0.0.1', '127.0.0.1']);
  const header = await headerAndData(t, way);
  t.same(header, { source: '10.1.0.9', destination: '10.7.7.7', port: 80, tlvs: { '0xd0': PEER }, rest: '' });
});

t.test('PROXY without a port of its own: on that of the tunnel', async (t) => {
  const way = await open(t, { tunnel: { protocol: 'PROXY' }, authority: '10.1.0.3:8080', port: 8080 });
  t.equal(way[1].local, '127.0.0.1');
  t.match(await headerAndData(t, way), { destination: '10.1.0.3', port: 8080 });
});

t.test('PROXY, LOCALHOST_APP_TUNNEL=false: at the pod’s own address, from that of the client', async (t) => {
  const way = await open(t, {
    tunnel: PROXY,
    env: { LOCALHOST_APP_TUNNEL: 'false' },
    authority: '10.7.7.7:80',
    port: 15_088,
  });
  t.same([way[1].peer, way[1].local], ['10.1.0.9', '10.1.0.3']);
  t.match(await headerAndData(t, way), { source: '10.1.0.9', destination: '10.7.7.7' });
});

t.test('PROXY over IPv6', async (t) => {
  const way = await open(t, { tunnel: PROXY, authority: '[fd00:7::7]:80', ip: 'fd00:1::3', port: 15_088 });
  t.same([way[1].peer, way[1].local], ['::1', '::1']);
  const header = await headerAndData(t, way);
  t.same(header, { source: 'fd00:1::9', destination: 'fd00:7::7', port: 80, tlvs: { '0xd0': PEER }, rest: '' });
});

t.test('PROXY for a host name: its first address of the own network, IPv4 before IPv6, and the name', async (t) => {
  const vips = ['fd00:96::1', '10.96.0.1'];
  const way = await open(t, { tunnel: PROXY, service: aService('cart', { vips }), authority: `${HOST}:80`, port: 15_088 });
  t.match(await headerAndData(t, way), { destination: '10.96.0.1', port: 80, tlvs: { '0xd0': PEER, '0xd1': HOST } });
});

t.test('PROXY for a host name that has no address is refused: there is none that the header could name', async (t) => {
  const service = aService('cart', { vips: [] });
  await t.rejects(open(t, { tunnel: PROXY, service, authority: `${HOST}:80`, port: 15_088 }), { message: /503/u });
});

for (const [what, tunnel, port] of [
  ['on the port of the tunnel', { protocol: 'NONE' }, 8080],
  ['on a port of its own', { protocol: 'NONE', port: 15_088 }, 15_088],
] as const)
  t.test(`NONE, ${what}: plain bytes for any address`, async (t) => {
    const [opened, seen] = await open(t, { tunnel, authority: '10.7.7.7:8080', port });
    t.same([seen.peer, seen.local], ['10.1.0.9', '10.1.0.3']);
    say(opened, 'hello');
    await eventually('the bytes', () => seen.bytes().length >= 5 || undefined);
    t.equal(seen.bytes().toString('latin1'), 'hello', 'and nothing before them');
    seen.end();
  });

t.test('policies are asked about the port of the application tunnel, not about the one that the client asked for', async (t) => {
  const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], applicationTunnel: PROXY });
  const lab = new MeshLab(t);
  const node = await lab.node('node-2');
  const deny = (port: number) => aPolicy('no', { action: 'Deny', matches: [aMatch({ destinationPorts: [port] })] });
  await lab.apply(cart, deny(80));
  const pod = await lab.captured(cart);
  let accepted = 0;
  await pod.serve(() => void accepted++, 15_088);
  const peer = hbonePeer(t, lab, cart, '10.1.0.9');
  const { stream } = await peer.open({ authority: '10.1.0.3:80' });
  await eventually('the application', () => accepted === 1 || undefined);
  stream.reset();
  await lab.apply(deny(15_088));
  await t.rejects(peer.open({ authority: '10.1.0.3:80' }), { message: /401/u });
  await node.line({ error: 'connection closed due to policy rejection: explicitly denied by: shop/no' });
  t.equal(accepted, 1);
});
