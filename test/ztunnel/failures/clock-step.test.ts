// The time of day steps by five minutes under way: connections, certificates, timers and durations do not mind. What the peers' clocks are
// off by is another matter: peers.test.ts has certificates that ended, or begin, five minutes from now.
import type { Socket } from 'node:net';
import t from 'tap';
import type { Clock } from '#shared/clock.ts';
import { systemClock } from '#shared/clock.ts';
import { aWorkload } from '../../fixtures/mesh.ts';
import { TestControlPlane } from '../../harness/control-plane.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { eventually, MeshLab } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const stock = aWorkload('stock', { node: 'node-2', ips: ['10.1.0.4'] });
const STEP = 5 * 60_000;

class SteppedClock implements Clock {
  offset = 0;
  now = (): number => systemClock.now() + this.offset;
  monotonic = (): number => systemClock.monotonic();
  after: Clock['after'] = (ms, callback) => systemClock.after(ms, callback);
}

for (const [name, step, life] of [
  ['on, past the end of every certificate', STEP, '4m'],
  ['on', STEP, '24h'],
  ['back, before the beginning of every certificate', -STEP, '4m'],
] as const)
  t.test(`the clock steps ${name}`, async (t) => {
    const lab = new MeshLab(t);
    const plane = new TestControlPlane(lab.ca);
    t.teardown(() => plane.stop());
    for (const workload of [web, cart, stock]) plane.setWorkload(workload);
    await plane.start();
    const clock = new SteppedClock();
    plane.now = clock.now;
    // What is issued after the step is to be valid for OpenSSL too, which has the time of the system.
    if (step > 0) plane.backdate = 2 * step;
    // On the main thread, where the clock of the test is.
    const env = { XDS_ADDRESS: plane.address, CA_ADDRESS: plane.address, SECRET_TTL: life, ZTUNNEL_WORKER_THREADS: 'main' };
    const [near, far] = [await lab.node('node-1', env, 'ca', clock), await lab.node('node-2', env, 'ca', clock)];
    const [client, one, two] = [await lab.captured(web), await lab.captured(cart), await lab.captured(stock)];
    for (const pod of [one, two]) await pod.serve((socket: Socket) => void socket.pipe(socket), 8080);
    const connect = async ({ ip }: TestPod): Promise<Endpoint> => {
      const end = await Endpoint.open(client, { ip, port: 8080 });
      end.socket.write('hello');
      await end.untilBytes(5);
      return end;
    };
    const held = await connect(one);
    await eventually('the certificates', () => (plane.issued >= 3 ? true : undefined));
    await new Promise((resolve) => setTimeout(resolve, 1100));

    clock.offset = step;
    held.socket.write('again');
    await held.untilBytes(10);
    // On the tunnel connection that is there, and on a new one.
    await connect(one);
    await connect(two);
    t.same(held.seen, []);
    held.socket.end();
    const line = await near.line({ direction: 'outbound' });
    t.ok(
      Number.parseInt(String(line['duration']), 10) < 20_000,
      `a duration is no matter of the time of day: ${line['duration']}`,
    );
    t.equal(await near.metric('istio_tcp_connections_failed_total'), 0);
    t.ok(near.app.readiness.ready && far.app.readiness.ready);
    t.ok(
      life === '24h' || step < 0 ? plane.issued === 3 : plane.issued >= 5,
      'asked anew for what had ended, and for nothing else',
    );
    t.ok(plane.issued < 12, `${plane.issued} certificates: a strange clock is no reason to ask again and again`);
  });
