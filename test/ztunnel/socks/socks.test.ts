// SOCKS5 on a pod's loopback, spoken by curl and by clients that do not know how.
import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import t from 'tap';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aMatch, aPolicy, aService, aWorkload } from '../../fixtures/mesh.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { MeshLab } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

interface Ran {
  readonly code: number;
  readonly stdout: string;
}

function curl(pod: TestPod, ...args: string[]): Promise<Ran> {
  return new Promise((resolve) => {
    const all = ['netns', 'exec', pod.netns.name, 'curl', '-s', '-m', '15', ...args];
    execFile('ip', all, (error, stdout) => resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout }));
  });
}

for (const backend of BACKENDS)
  for (const workers of ['1', 'main'])
    t.test(`${backend}, ${workers === 'main' ? 'in the main thread' : 'with data workers'}`, { timeout: 60_000 }, async (t) => {
      const lab = new MeshLab(t);
      const env = { CULVERT_BACKEND: backend, ZTUNNEL_WORKER_THREADS: workers, UNSTABLE_ENABLE_SOCKS5: 'true' };
      const near = await lab.node('node-1', env);
      await lab.node('node-2', env);
      await lab.apply(web, cart);
      const [client, server] = [await lab.captured(web), await lab.captured(cart)];
      const http = createServer((request, response) => response.end(`hello ${request.socket.remoteAddress}`));
      const port = await server.serve((socket) => void http.emit('connection', socket));
      const to = `${server.ip}:${port}`;

      const got = await curl(client, '--socks5', '127.0.0.1:15080', `http://${to}/`);
      t.match(got.stdout, /^hello (::ffff:)?10\.1\.0\.1$/u, 'through the tunnel, with the address of the pod');
      t.match(await near.line({ 'dst.addr': '10.1.0.3:15008' }), { 'src.workload': 'web', 'dst.hbone_addr': to });

      const shop = aService('cart', { vips: ['10.96.0.9'], ports: { 80: port } });
      await lab.apply(shop, aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], services: { cart: { 80: port } } }));
      const named = await curl(client, '--socks5-hostname', '127.0.0.1:15080', `http://${shop.hostname}/`);
      t.match(named.stdout, /^hello /u, 'a name of the mesh');

      const refused = await curl(client, '--socks5', '127.0.0.1:15080', 'http://10.1.0.9:9/');
      t.equal(refused.code, 97, 'a destination that cannot be reached is told in the reply');
      const own = await curl(client, '--socks5', '127.0.0.1:15080', 'http://127.0.0.1:15080/');
      t.equal(own.code, 97, 'nor may it call itself');

      const stranger = new Endpoint(await connectInside(client));
      stranger.socket.write('GET / HTTP/1.1\r\n\r\n');
      await stranger.until('end');
      t.equal(stranger.bytes, 2, 'another protocol is answered with no method');
      stranger.socket.destroy();
      const gone = new Endpoint(await connectInside(client));
      gone.socket.write(Buffer.of(5, 1, 0));
      t.ok(await gone.gets(2));
      gone.socket.resetAndDestroy();

      await lab.apply(aPolicy('nobody', { action: 'Deny', matches: [aMatch({ destinationPorts: [port] })] }));
      const denied = await curl(client, '--socks5', '127.0.0.1:15080', `http://${to}/`);
      t.equal(denied.code, 97, 'policies hold');
    });

function connectInside(pod: TestPod) {
  return pod.connect({ ip: '127.0.0.1', port: 15_080 });
}
