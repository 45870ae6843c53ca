// A client whose address our socket cannot bear (link-local: it says nothing without a device) is served under another one, unless the
// ztunnel was told that the address matters more (ENABLE_ORIG_SRC=true).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import t from 'tap';
import type { Test } from 'tap';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

t.setTimeout(60_000);

const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3', 'fd00::3'] });
const LINK_LOCAL = 'fe80::9';

for (const backend of BACKENDS) {
  t.test(`${backend}: a client with a link-local address`, async (t) => {
    const { port, client, seen } = await setUp(t, { CULVERT_BACKEND: backend });
    t.equal(await ask(client, port), 'hello');
    t.strictSame(seen, ['fd00::3'], 'the application sees the address of its own pod');
  });
}

t.test('where the address matters more the connection fails, and its line says why', async (t) => {
  const { node, port, client, seen } = await setUp(t, { ENABLE_ORIG_SRC: 'true' });
  t.equal(await ask(client, port), '');
  t.strictSame(seen, []);
  const line = await node.line({ direction: 'inbound', level: 'error' });
  t.match(line['error'], /connection failed: connect to .* from fe80::9.*: bind: invalid argument \(EINVAL\)/u);
});

async function setUp(t: Test, env: Record<string, string>) {
  const lab = new MeshLab(t);
  const node = await lab.node('node-2', env);
  await lab.apply(cart);
  const server = await lab.captured(cart);
  const client = lab.net.pod('stranger', '10.1.0.9', 'fd00::9');
  client.netns.exec('ip', '-6', 'addr', 'add', `${LINK_LOCAL}/64`, 'dev', 'eth0', 'nodad');
  const seen: string[] = [];
  const port = await server.serve((socket) => {
    seen.push(socket.remoteAddress ?? '');
    socket.pipe(socket);
  });
  return { node, port, client, seen };
}

/** What comes back to a program of the pod that connects from its link-local address; '' when the connection was refused. */
async function ask({ netns }: TestPod, port: number): Promise<string> {
  const program = `
    const socket = require('node:net').connect({ host: 'fd00::3', port: ${port}, localAddress: '${LINK_LOCAL}%eth0' });
    socket.on('data', (chunk) => { process.stdout.write(chunk); socket.destroy(); }).on('error', () => {}).write('hello');`;
  const child = spawn('ip', ['netns', 'exec', netns.name, process.execPath, '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [answer] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return answer;
}
