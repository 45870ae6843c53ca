// A ztunnel takes tunnels for its own pod, so that a scraper of the mesh reaches its metrics as those of any other pod, with its identity.
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { eventually } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { ZtunnelProcesses } from '../harness/ztunnel-processes.ts';

const prometheus = aWorkload('prometheus', { node: 'node-1', ips: ['10.1.0.1'] });
const ztunnel = aWorkload('ztunnel-2', { namespace: 'mesh', serviceAccount: 'ztunnel', node: 'node-2', ips: ['10.1.0.20'] });
const self = { POD_NAME: 'ztunnel-2', POD_NAMESPACE: 'mesh', SERVICE_ACCOUNT: 'ztunnel', STATS_PORT: '15020' };

for (const workers of ['1', 'main'])
  t.test(workers === 'main' ? 'in the main thread' : 'with data workers', { timeout: 60_000 }, async (t) => {
    const lab = new ZtunnelProcesses(t, [prometheus, ztunnel]);
    await lab.node('node-1');
    const place = lab.net.pod('ztunnel-2', '10.1.0.20');
    const node = await lab.node('node-2', { ...self, ZTUNNEL_WORKER_THREADS: workers }, undefined, place);
    const client = await lab.captured(prometheus);
    const scrape = async (port: number): Promise<string> => {
      // A reset may come before the connect is told.
      const socket = await client.connect({ ip: '10.1.0.20', port }).catch(() => undefined);
      if (!socket) return '';
      const end = new Endpoint(socket);
      let text = '';
      end.socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
      end.socket.once('end', () => end.socket.end());
      end.socket.write('GET /metrics HTTP/1.1\r\nHost: ztunnel\r\nConnection: close\r\n\r\n');
      await end.until('closed');
      return text;
    };
    const page = await eventually('its tunnels', async () =>
      (await scrape(15_020)).startsWith('HTTP/1.1 200') ? 'yes' : undefined,
    );
    t.ok(page);
    const labels = 'source_principal="spiffe://cluster.local/ns/shop/sa/prometheus"';
    await eventually('the count', async () =>
      (await node.metric('istio_tcp_connections_closed_total', labels)) >= 1 ? true : undefined,
    );
    t.equal(await scrape(15_008), '', 'but not to its tunnels through its tunnels');
  });

for (const reuse of ['true', 'false'])
  t.test(`across a takeover, INPOD_PORT_REUSE=${reuse}: its tunnels are never refused`, { timeout: 60_000 }, async (t) => {
    const lab = new ZtunnelProcesses(t, [prometheus, ztunnel]);
    await lab.node('node-1');
    const place = lab.net.pod('ztunnel-2', '10.1.0.20');
    const node = await lab.node('node-2', { ...self, INPOD_PORT_REUSE: reuse }, undefined, place);
    const client = await lab.captured(prometheus);
    await place.serve((socket) => void socket.pipe(socket), 8080);
    const served = async (): Promise<boolean> => {
      const socket = await client.connect({ ip: '10.1.0.20', port: 8080 }).catch(() => undefined);
      if (!socket) return false;
      const end = new Endpoint(socket);
      end.socket.write('hello');
      const answered = await end.gets(5);
      end.socket.end();
      return answered;
    };
    await eventually('its tunnels', async () => ((await served()) ? true : undefined));
    const before = listeners(place);
    t.not(before.length, 0);
    let running = true;
    const outcomes: Promise<boolean>[] = [];
    const load = (async () => {
      for (; running; await sleep(10)) outcomes.push(served());
    })();
    t.equal(await node.replace(), 0);
    await sleep(200);
    running = false;
    await load;
    const refused = (await Promise.all(outcomes)).filter((answered) => !answered).length;
    t.equal(refused, 0, `of ${outcomes.length}`);
    t.same(listeners(place), before, 'the same sockets listen');
  });

/** What listens for tunnels in the network of the pod, by the numbers of the sockets. */
function listeners({ netns }: TestPod): string[] {
  const table = execFileSync('ip', ['netns', 'exec', netns.name, 'ss', '-Htlne', 'sport', '=', ':15008'], { encoding: 'utf8' });
  return [...table.matchAll(/ ino:(\d+)/gu)].map(([, inode = '']) => inode).sort();
}
