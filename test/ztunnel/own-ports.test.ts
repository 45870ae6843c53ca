// Calls of a ztunnel's own ports, from inside of an enrolled pod and from outside, by every address that they could be tried at: nobody gets
// an answer, nothing goes round in circles, and whoever calls properly is served all the while (facts: ztunnel 1 and 14).
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aService, aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

t.setTimeout(120_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const near = aWorkload('near', { node: 'node-1', ips: ['10.1.0.2'] });
/** Its service leads to a port of the ztunnel's. */
const sly = aWorkload('sly', { node: 'node-2', ips: ['10.1.0.3'], services: { sly: { 80: 15_001, 81: 15_006, 82: 15_008 } } });
const service = aService('sly', { vips: ['10.96.0.1'], ports: { 80: 15_001, 81: 15_006, 82: 15_008 } });

const CAPTURE = [15_001, 15_006, 15_008];
/** Admin, metrics, readiness: they are in the ztunnel's own network. SOCKS5 is off, and DNS is for the pod's own loopback. */
const ELSEWHERE = [15_000, 15_020, 15_021, 15_053, 15_080];

/** Who calls, which addresses, which ports. */
const CALLS = [
  ['web', '127.0.0.1', CAPTURE],
  ['web', '10.1.0.1', [...CAPTURE, ...ELSEWHERE]],
  ['web', '10.1.0.2', [...CAPTURE, ...ELSEWHERE]],
  ['web', '10.1.0.3', [...CAPTURE, ...ELSEWHERE]],
  ['web', '10.96.0.1', [80, 81, 82]],
  ['stranger', '10.1.0.1', [...CAPTURE, ...ELSEWHERE]],
  ['stranger', '10.1.0.3', [...CAPTURE, ...ELSEWHERE]],
] as const;

/** What a caller gets that speaks no protocol of the mesh, and whether the connection is over, refused ones included. */
async function outcome(from: TestPod, ip: string, port: number): Promise<{ bytes: number; over: string }> {
  const socket = from.dial({ ip, port });
  const end = new Endpoint(socket);
  socket.once('connect', () => socket.write('GET / HTTP/1.1\r\n\r\n'));
  socket.once('end', () => socket.end());
  await end.until('closed').catch(() => socket.destroy());
  return { bytes: end.bytes, over: end.seen.includes('closed') ? 'over' : 'still open' };
}

for (const backend of BACKENDS)
  t.test(backend, async (t) => {
    const lab = new MeshLab(t);
    const env = { CULVERT_BACKEND: backend, ISTIO_META_DNS_CAPTURE: 'true' };
    const [one, two] = [await lab.node('node-1', env), await lab.node('node-2', env)];
    await lab.apply(web, near, sly, service);
    const pods = { web: await lab.captured(web), stranger: lab.net.pod('stranger', '10.1.0.9') };
    const [neighbour, server] = [await lab.captured(near), await lab.captured(sly)];
    for (const pod of [neighbour, server]) await pod.serve((socket) => void socket.pipe(socket), 8080);
    for (const [who, ip, ports] of CALLS)
      for (const port of ports) t.same(await outcome(pods[who], ip, port), { bytes: 0, over: 'over' }, `${who} to ${ip}:${port}`);

    await one.line({ message: 'connection failed', direction: 'outbound', error: 'attempted recursive call to ourselves' });
    await two.line({ message: 'connection failed', direction: 'inbound', error: 'attempted recursive call to ourselves' });
    const opened = async (): Promise<number> =>
      (await one.metric('istio_tcp_connections_opened_total')) + (await two.metric('istio_tcp_connections_opened_total'));
    const before = await opened();
    await sleep(300);
    t.equal(await opened(), before, 'nothing goes round');
    const calls = CALLS.reduce((sum, [, , ports]) => sum + ports.length, 0);
    t.ok(before <= 2 * calls, `${before} connections for ${calls} calls`);
    for (const node of [one, two])
      await eventually('the end of all connections', async () =>
        (await node.metric('istio_tcp_connections_opened_total')) === (await node.metric('istio_tcp_connections_closed_total'))
          ? true
          : undefined,
      );
    for (const pod of [neighbour, server]) {
      const end = await Endpoint.open(pods.web, { ip: pod.ip, port: 8080 });
      end.socket.write('hello');
      await end.untilBytes(5);
      t.pass(`${pod.name} serves`);
    }
  });
