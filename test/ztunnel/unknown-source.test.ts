// A captured pod that the control plane has not told of yet: whatever arrives at its three ports waits for that, for five seconds (facts:
// ztunnel 3 and 4).
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { PEER } from '../harness/hbone-peer.ts';
import { MeshLab } from '../harness/mesh-lab.ts';
import { dialTls, sessionOver } from '../harness/node-http2.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const POD = { ip: '10.1.0.1', port: 8080 };
const STRANGER = { ip: '10.1.0.9', port: 8080 };

async function setUp(t: Test) {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1');
  const [pod, stranger] = [await lab.captured(web), lab.net.pod('stranger', STRANGER.ip)];
  let accepted = 0;
  const echo = (socket: Socket): void => {
    accepted++;
    socket.pipe(socket);
  };
  for (const end of [pod, stranger]) await end.serve(echo, 8080);
  const tls = () => dialTls(stranger, POD.ip, lab.ca.issue(PEER));
  return { lab, node, pod, stranger, tls, accepted: () => accepted };
}

t.test('it does not come: each is refused after five seconds, with a line that names the pod', async (t) => {
  const { node, pod, stranger, tls, accepted } = await setUp(t);
  const startedAt = performance.now();
  const [out, into] = [await Endpoint.open(pod, STRANGER), await Endpoint.open(stranger, POD)];
  const tunnel = t.rejects(tls());
  await sleep(3000);
  t.same([out.seen, into.seen], [[], []], 'they wait');
  t.same(node.lines, []);
  const error = 'failed to fetch information about local workload: web.shop (web)';
  for (const at of [
    { direction: 'outbound', 'dst.addr': '10.1.0.9:8080' },
    { direction: 'inbound', 'dst.addr': '10.1.0.1:8080' },
    { direction: 'inbound', 'dst.addr': '10.1.0.1:15008' },
  ]) {
    t.match(await node.line({ ...at, error }), { message: 'connection failed', level: 'warn' });
    t.ok(performance.now() - startedAt > 4900, `after ${Math.round(performance.now() - startedAt)} ms`);
  }
  await Promise.all([out.until('closed'), into.until('closed'), tunnel]);
  t.same(
    [out.seen, into.seen],
    [
      ['reset', 'closed'],
      ['reset', 'closed'],
    ],
  );
  t.equal(accepted(), 0);
});

t.test('it comes meanwhile: each is served as if nothing had been', async (t) => {
  const { lab, node, pod, stranger, tls, accepted } = await setUp(t);
  const ends = [await Endpoint.open(pod, STRANGER), await Endpoint.open(stranger, POD)];
  for (const { socket } of ends) socket.write('hello');
  const session = tls().then((socket) => sessionOver(t, socket));
  await sleep(1000);
  t.equal(accepted(), 0);
  await lab.apply(web);
  for (const end of ends) await end.untilBytes(5);
  const tunnel = (await session).request({ ':method': 'CONNECT', ':authority': '10.1.0.1:8080' });
  tunnel.write('hello');
  const [answer] = (await once(tunnel, 'data')) as [Buffer];
  t.equal(answer.toString(), 'hello');
  t.notMatch(node.lines, [{ message: 'connection failed' }]);
});
