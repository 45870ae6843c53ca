// Variables of the environment by what they change, where no other test does so: policy lines, baggage, the client's address, IPv6,
// settings of HTTP/2 and of the pool, and keepalive.
import { once } from 'node:events';
import type { Settings } from 'node:http2';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import type { HeaderList } from '#shared/hbone/api.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aMatch, aPolicy, aWorkload, presence } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { hbonePeer, PEER } from '../harness/hbone-peer.ts';
import { eventually, type LabNode, MeshLab } from '../harness/mesh-lab.ts';
import { dialTls, serveHttp2, sessionOver } from '../harness/node-http2.ts';
import type { TestPod } from '../harness/pod-net.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const APP = { ip: '10.1.0.3', port: 8080 };

async function cartLab(t: Test, env: Record<string, string>): Promise<{ lab: MeshLab; node: LabNode; server: TestPod }> {
  const lab = new MeshLab(t);
  const node = await lab.node('node-2', env);
  await lab.apply(web, cart);
  return { lab, node, server: await lab.captured(cart) };
}

for (const told of [true, false])
  t.test(`AUTHZ_POLICY_INFO_LOGGING=${told}`, async (t) => {
    const { lab, node, server } = await cartLab(t, { AUTHZ_POLICY_INFO_LOGGING: String(told) });
    await server.serve((socket) => void socket.pipe(socket), 8080);
    await lab.apply(
      aPolicy('no-9000', { action: 'Deny', matches: [aMatch({ destinationPorts: [9000] })] }),
      aPolicy('mesh-only', { matches: [aMatch({ principals: [presence] })] }),
      aPolicy('would-deny', { action: 'Deny', dryRun: true, matches: [aMatch({ destinationPorts: [8080] })] }),
      aPolicy('would-allow', { dryRun: true, matches: [aMatch({ destinationPorts: [9000] })] }),
    );
    const peer = hbonePeer(t, lab, cart, '10.1.0.9');
    await peer.open({ authority: '10.1.0.3:8080' });
    await t.rejects(peer.open({ authority: '10.1.0.3:9000' }), { message: /401/u }, 'dry-run policies decide nothing');
    const fields = ({ message, policy, ...rest }: LabNode['log'][number]) => [message, policy, rest['dst.addr']];
    const lines = () => node.log.filter(({ scope }) => scope === 'proxy').map(fields);
    const expected = [
      ['dry-run: deny policy match: shop/would-deny', undefined, '10.1.0.3:8080'],
      ['dry-run: no allow policies match', undefined, '10.1.0.3:8080'],
      ['allow policy match', 'shop/mesh-only', '10.1.0.3:8080'],
      ['dry-run: allow policy match: shop/would-allow', undefined, '10.1.0.3:9000'],
      ['deny policy match', 'shop/no-9000', '10.1.0.3:9000'],
    ];
    await node.line({ direction: 'inbound', level: 'error' });
    if (told) await eventually('five lines', () => lines().length >= expected.length || undefined);
    t.same(lines(), told ? expected : []);
  });

for (const used of [true, false])
  t.test(`ENABLE_RESPONSE_BAGGAGE=${used}`, async (t) => {
    const { lab, node, server } = await cartLab(t, { ENABLE_RESPONSE_BAGGAGE: String(used) });
    await server.serve((socket) => socket.end(), 8080);
    const headers: HeaderList = [['baggage', 'k8s.namespace.name=far,k8s.deployment.name=dep,service.name=svc']];
    const tunnel = await hbonePeer(t, lab, cart, '10.1.0.9').open({ authority: '10.1.0.3:8080', headers });
    const baggage = new Map(tunnel.headers).get('baggage');
    if (used) t.match(baggage, /k8s\.deployment\.name=cart/u);
    else t.same(tunnel.headers, [], 'nothing is told of the workload');
    tunnel.stream.reset();
    const line = await node.line({ direction: 'inbound', 'src.identity': PEER });
    t.equal(line['src.workload'], used ? 'svc' : undefined, used ? 'and what the peer says is heard' : 'nor asked of the peer');
  });

for (const [value, seen] of [
  ['true', '10.1.0.9'],
  ['false', '10.1.0.3'],
] as const)
  for (const backend of BACKENDS)
    t.test(`${backend}: ENABLE_ORIG_SRC=${value}: the application sees ${seen}`, async (t) => {
      const { lab, server } = await cartLab(t, { ENABLE_ORIG_SRC: value, CULVERT_BACKEND: backend });
      const clients: string[] = [];
      await server.serve((socket) => {
        clients.push(socket.remoteAddress?.replace('::ffff:', '') ?? '');
        socket.end();
      }, 8080);
      const stranger = lab.net.pod('plain', '10.1.0.9');
      const end = await Endpoint.open(stranger, APP);
      await end.until('end');
      t.same(clients, [seen], 'in the clear');
    });

t.test('ENABLE_ORIG_SRC: through a tunnel as in the clear', async (t) => {
  for (const [value, seen] of [
    ['true', '10.1.0.9'],
    ['false', '10.1.0.3'],
  ] as const)
    await t.test(value, async (t) => {
      const { lab, server } = await cartLab(t, { ENABLE_ORIG_SRC: value });
      const client = Promise.withResolvers<string>();
      await server.serve((socket) => client.resolve(socket.remoteAddress?.replace('::ffff:', '') ?? ''), 8080);
      await hbonePeer(t, lab, cart, '10.1.0.9').open({ authority: '10.1.0.3:8080' });
      t.equal(await client.promise, seen);
    });
});

for (const value of ['true', 'false'] as const)
  t.test(`IPV6_ENABLED=${value}: what listens where`, async (t) => {
    const { node, server } = await cartLab(t, { IPV6_ENABLED: value, ISTIO_META_DNS_CAPTURE: 'true' });
    const wildcard = value === 'true' ? /^(\*|\[::\]):/u : /^0\.0\.0\.0:/u;
    for (const port of [15_001, 15_006, 15_008]) {
      const [address = '', ...others] = listening(server, port);
      t.match(address, wildcard, String(port));
      t.same(others, [], 'and nothing besides');
    }
    const { admin, metrics, readiness } = node.app.ports;
    for (const port of [admin, metrics, readiness]) {
      t.ok(await answers('127.0.0.1', port));
      t.equal(await answers('::1', port), value === 'true', `IPv6 at ${port}`);
    }
  });

/** Addresses of the pod's listening sockets of the port, as `ss` tells them; each once. */
function listening({ netns }: TestPod, port: number): string[] {
  const rows = netns.exec('ss', '-tlnH', `sport = :${port}`).split('\n').filter(Boolean);
  return [...new Set(rows.map((row) => row.split(/\s+/u)[3] ?? ''))];
}

async function answers(ip: string, port: number): Promise<boolean> {
  const socket = connect(port, ip);
  const open = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  });
  socket.destroy();
  return open;
}

const HTTP2 = {
  HTTP2_STREAM_WINDOW_SIZE: '100000',
  HTTP2_CONNECTION_WINDOW_SIZE: '900000',
  HTTP2_FRAME_SIZE: '20000',
};
const SETTINGS: Settings = { initialWindowSize: 100_000, maxFrameSize: 20_000 };

for (const backend of BACKENDS) {
  t.test(`${backend}: HTTP2_*: what a peer is told that calls`, async (t) => {
    const { lab } = await cartLab(t, { CULVERT_BACKEND: backend, ...HTTP2 });
    const session = sessionOver(t, await dialTls(lab.pod(web), '10.1.0.3', lab.ca.issue(web.identity)));
    await once(session, 'remoteSettings');
    t.match(session.remoteSettings, { ...SETTINGS, maxConcurrentStreams: 200, maxHeaderListSize: 65_536 });
    await eventually('the window', () => session.state.remoteWindowSize === 900_000 || undefined);
  });

  t.test(`${backend}: HTTP2_* and POOL_*: what a peer is told that is called, and how many connections`, async (t) => {
    const env = { POOL_MAX_STREAMS_PER_CONNECTION: '2', POOL_UNUSED_RELEASE_TIMEOUT: '300ms' };
    const lab = new MeshLab(t);
    await lab.node('node-1', { CULVERT_BACKEND: backend, ...HTTP2, ...env });
    await lab.apply(web, cart);
    const client = await lab.captured(web);
    const { sessions, sockets } = await serveHttp2(t, lab.pod(cart), lab.ca.issue(cart.identity));
    const ends: Endpoint[] = [];
    for (const connections of [1, 1, 2, 2, 3]) {
      const end = await Endpoint.open(client, APP);
      end.socket.write('hello');
      await end.untilBytes(5);
      ends.push(end);
      t.equal(sessions.length, connections, `${ends.length} tunnels`);
    }
    t.match(sessions[0]?.remoteSettings, { ...SETTINGS, maxHeaderListSize: 16_384 });
    // Five bytes went back through each of its two tunnels.
    t.equal(sessions[0]?.state.remoteWindowSize, 900_000 - 10);
    for (const end of ends.splice(0, 4)) {
      end.socket.end();
      await end.until('closed');
    }
    const closed = (): boolean[] => sockets.map((socket) => socket.closed);
    await eventually('the end of what is unused', () => closed().filter(Boolean).length === 2 || undefined);
    await sleep(400);
    t.same(closed(), [true, true, false], 'what has a tunnel stays');
  });
}

for (const backend of BACKENDS)
  for (const [enabled, expected] of [
    [true, { 15_001: true, 15_006: true, 15_008: true }],
    [false, { 15_001: false, 15_006: false, 15_008: false }],
  ] as const)
    t.test(`${backend}: KEEPALIVE_ENABLED=${enabled}: on what 15001, 15006 and 15008 accept`, async (t) => {
      const env = { KEEPALIVE_TIME: '77m', KEEPALIVE_ENABLED: String(enabled) };
      const { lab, server } = await cartLab(t, { CULVERT_BACKEND: backend, ...env });
      const stranger = lab.net.pod('plain', '10.1.0.9');
      await server.serve((socket) => void socket.pipe(socket), 8080);
      const port = await stranger.serve((socket) => void socket.pipe(socket));
      for (const end of [await Endpoint.open(stranger, APP), await Endpoint.open(server, { ip: stranger.ip, port })]) {
        end.socket.write('x');
        await end.untilBytes(1);
      }
      await hbonePeer(t, lab, cart, '10.1.0.8').open({ authority: '10.1.0.3:8080' });
      for (const [at, probed] of Object.entries(expected)) {
        const row = await eventually(`an acknowledged connection on ${at}`, () => {
          const found = server.netns.exec('ss', '-tnoH', 'state', 'established', `sport = :${at}`);
          // Until what was sent is acknowledged, its own timer is shown.
          return /timer:\(on,/u.test(found) || found === '' ? undefined : found;
        });
        t.equal(/timer:\(keepalive,7[67]min/u.test(row), probed, `${at}: ${row.trim()}`);
      }
    });
