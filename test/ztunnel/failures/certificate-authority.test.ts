// The CA is away for longer than certificates live: what is open lives, what needs a new handshake is refused with the reason, and is
// served again soon after the CA is back, however long it was away.
import type { Socket } from 'node:net';
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { TestControlPlane } from '../../harness/control-plane.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { eventually, MeshLab } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const stock = aWorkload('stock', { node: 'node-2', ips: ['10.1.0.4'] });
const seconds = (count: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, count * 1000));

t.test('away past renewal and expiry, and back', async (t) => {
  const lab = new MeshLab(t);
  const plane = new TestControlPlane(lab.ca);
  t.teardown(() => plane.stop());
  for (const workload of [web, cart, stock]) plane.setWorkload(workload);
  await plane.start();
  const env = { XDS_ADDRESS: plane.address, CA_ADDRESS: plane.address, SECRET_TTL: '4s' };
  const [near, far] = [await lab.node('node-1', env, 'ca'), await lab.node('node-2', env, 'ca')];
  const [client, ...servers] = [await lab.captured(web), await lab.captured(cart), await lab.captured(stock)];
  const echo = (socket: Socket): void => void socket.pipe(socket);
  const ports = new Map<TestPod, number>();
  for (const pod of servers) ports.set(pod, await pod.serve(echo));
  const connect = async (to: TestPod): Promise<Endpoint> => {
    const end = await Endpoint.open(client, { ip: to.ip, port: ports.get(to) ?? 0 });
    end.socket.write('hello');
    return end;
  };
  const [first, second] = servers;
  if (!first || !second) throw new Error('two servers');
  const held = await connect(first);
  await held.untilBytes(5);
  await eventually('a renewal of each', () => (plane.issued >= 6 ? true : undefined));

  plane.signs = false;
  await seconds(7);
  for (const node of [near, far]) t.ok((await node.metric('culvert_certificate_fetches_total', 'result="failure"')) >= 2);
  held.socket.write('still');
  await held.untilBytes(10);
  await (await connect(second)).until('closed');
  t.match(await near.line({ level: 'error' }), { 'dst.workload': 'stock', error: /no certificate|UNAVAILABLE|expired/u });
  t.equal(await near.metric('istio_tcp_connections_failed_total', 'response_flags="IDENTITY_ERROR"'), 1);
  t.ok(near.app.readiness.ready, 'what it can serve it serves');

  // The pause between attempts has grown by now; whoever wants to connect does not wait for its end.
  await seconds(4);
  plane.signs = true;
  const back = performance.now();
  await eventually('service', async () => {
    const end = await connect(second).catch(() => undefined);
    return (await end?.gets(5)) || undefined;
  });
  t.ok(performance.now() - back < 6000, `served ${Math.round(performance.now() - back)} ms after the CA was back`);
});

t.test('away at the start: pods are served as far as no certificate is needed, and wholly soon after it comes', async (t) => {
  const lab = new MeshLab(t);
  const plane = new TestControlPlane(lab.ca);
  t.teardown(() => plane.stop());
  plane.signs = false;
  const open = aWorkload('open', { node: 'node-9', ips: ['10.1.0.9'], protocol: 'TCP' });
  await plane.start();
  const env = { CA_ADDRESS: plane.address };
  const [near] = [await lab.node('node-1', env, 'ca'), await lab.node('node-2', env, 'ca')];
  await lab.apply(web, cart, open);
  const [client, server, outside] = [await lab.captured(web), await lab.captured(cart), lab.pod(open)];
  for (const pod of [server, outside]) await pod.serve((socket: Socket) => void socket.pipe(socket), 8080);
  const talk = async ({ ip }: TestPod): Promise<boolean> => {
    const end = await Endpoint.open(client, { ip, port: 8080 });
    end.socket.write('hello');
    const answered = await end.gets(5);
    end.socket.destroy();
    return answered;
  };
  t.ok(await talk(outside));
  const waiting = await Endpoint.open(client, { ip: server.ip, port: 8080 });
  waiting.socket.write('hello');
  await seconds(3);
  t.strictSame([waiting.bytes, ...waiting.seen], [0], 'a first connection waits for its certificate');
  plane.signs = true;
  const back = performance.now();
  await eventually('the certificates', () => waiting.bytes === 5 || undefined);
  t.ok(performance.now() - back < 6000, `served ${Math.round(performance.now() - back)} ms after the CA had come`);
  t.ok(await talk(server));
  t.equal(await near.metric('istio_tcp_connections_failed_total'), 0, 'and none failed for it');
});
