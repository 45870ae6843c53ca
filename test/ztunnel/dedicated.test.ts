// PROXY_MODE=dedicated: a pod with a ztunnel of its own, in its own network namespace, beside pods that a node's ztunnel serves.
import t from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { eventually } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { ZtunnelProcesses } from '../harness/ztunnel-processes.ts';

const alone = aWorkload('alone', { node: 'node-1', ips: ['10.1.0.1'] });
const other = aWorkload('other', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

for (const workers of ['1', 'main'])
  t.test(workers === 'main' ? 'in the main thread' : 'with data workers', { timeout: 90_000 }, async (t) => {
    const lab = new ZtunnelProcesses(t, [alone, other, cart]);
    const node = await lab.node('node-2');
    const env = { ZTUNNEL_WORKER_THREADS: workers };
    const pods = [await lab.dedicated(alone, env), await lab.dedicated(other, env), await lab.captured(cart)];
    const stranger = lab.net.pod('stranger', '10.1.0.9');
    const talk = async (from: TestPod, to: TestPod): Promise<string | undefined> => {
      let seen: string | undefined;
      const port = await to.serve((socket) => {
        seen = socket.remoteAddress;
        socket.pipe(socket);
      });
      const end = await Endpoint.open(from, { ip: to.ip, port });
      end.socket.write('hello');
      const answered = await end.gets(5);
      end.socket.destroy();
      return answered ? seen?.replace('::ffff:', '') : undefined;
    };
    for (const from of pods)
      for (const to of pods) if (from !== to) t.equal(await talk(from, to), from.ip, `${from.name} to ${to.name}`);
    const [first] = pods;
    if (!first) throw new Error('a pod');
    t.equal(await talk(first, stranger), first.ip, 'out of the mesh');
    t.equal(await talk(stranger, first), stranger.ip, 'plaintext in');
    // Both dedicated ztunnels have spoken to the node's through tunnels, and it to them.
    const tunnelled = (reporter: string): Promise<number> =>
      node.metric('istio_tcp_connections_closed_total', `reporter="${reporter}"`);
    await eventually('the counts', async () =>
      (await tunnelled('destination')) === 2 && (await tunnelled('source')) === 2 ? true : undefined,
    );
    const secure = 'connection_security_policy="mutual_tls"';
    t.equal(await node.metric('istio_tcp_connections_opened_total', secure), 4);
  });
