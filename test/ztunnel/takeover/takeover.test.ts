// A rolling upgrade of a node's ztunnel under load, as processes: no new connection is refused or reset, what is open goes on while the
// old one drains, and counters do not go back.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { connectSeqpacket } from '#shared/os/seqpacket.ts';
import { applyPodRules } from '../../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../../cni/rules/pod.ts';
import { eventually } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';
import { TestControlPlane } from '../../harness/control-plane.ts';
import { createTestCa } from '../../harness/test-ca.ts';
import { createPodNet } from '../../harness/pod-net.ts';
import { ZdsAgent } from '../../harness/zds-agent.ts';

t.setTimeout(90_000);

const STATE = `
workloads:
  - { name: web, namespace: shop, node: node-1, protocol: HBONE, workloadIps: [10.1.0.1] }
  - { name: cart, namespace: shop, node: node-1, protocol: HBONE, workloadIps: [10.1.0.2] }
`;
const CART = { ip: '10.1.0.2', port: 8080 };

async function setUp(t: Test) {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-takeover-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'state.yaml'), STATE);
  // A connection that was accepted while the pods change hands meets its destination in the other process, through a tunnel.
  const plane = new TestControlPlane(createTestCa());
  t.teardown(() => plane.stop());
  await plane.start();
  const [admin, stats, readiness] = await freePorts();
  const env: Record<string, string> = {
    NODE_NAME: 'node-1',
    XDS_ADDRESS: '',
    CA_ADDRESS: plane.address,
    LOCAL_XDS_PATH: join(dir, 'state.yaml'),
    INPOD_UDS: join(dir, 'zds.sock'),
    ADMIN_PORT: String(admin),
    STATS_PORT: String(stats),
    READINESS_PORT: String(readiness),
    CONNECTION_TERMINATION_DEADLINE: '3s',
  };
  const net = createPodNet(t);
  const agent = new ZdsAgent(t, join(dir, 'zds.sock'));
  const [client, server] = [net.pod('web', '10.1.0.1'), net.pod('cart', '10.1.0.2')];
  for (const pod of [client, server]) {
    agent.pods.set(`uid-${pod.name}`, {
      uid: `uid-${pod.name}`,
      name: pod.name,
      namespace: 'shop',
      serviceAccount: 'default',
      netns: pod.netns.fd,
    });
    await applyPodRules(pod.netns.fd, { ...DEFAULT_POD_RULES, dnsCapture: false });
  }
  await server.serve((socket) => socket.pipe(socket), CART.port);
  const start = (args: readonly string[], overrides: Record<string, string> = {}) => {
    const all = { PATH: process.env['PATH'], ...env, ...overrides };
    const child = spawn(process.execPath, ['ztunnel/main.ts', ...args], { env: all, stdio: ['ignore', 'pipe', 'inherit'] });
    let log = '';
    child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const exit = once(child, 'exit').then(([code]) => code as number | null);
    t.teardown(async () => {
      child.kill('SIGKILL');
      await exit;
    });
    return { child, exit, log: () => log };
  };
  const get = async (port: number | undefined, path: string): Promise<string> =>
    (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  const ready = () =>
    eventually('readiness', async () =>
      existsSync(join(dir, 'takeover.sock')) && (await get(readiness, '/healthz/ready').catch(() => '')) === 'ready\n'
        ? true
        : undefined,
    );
  const opened = async (): Promise<number> => {
    const lines = (await get(stats, '/metrics')).split('\n');
    return lines
      .filter((line) => line.startsWith('istio_tcp_connections_opened_total{reporter="source"'))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  };
  return { dir, start, ready, opened, client };
}

/** Below those that the kernel gives to whoever asks for any: tests that run beside this one would get them. */
async function freePorts(): Promise<number[]> {
  const free: number[] = [];
  while (free.length < 3) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const bound = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, () => resolve(true));
    });
    server.close();
    if (bound && !free.includes(port)) free.push(port);
  }
  return free;
}

async function echoes(socket: Socket): Promise<boolean> {
  socket.write('hi');
  return Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]).catch(() => false);
}

/** New connections, one every 20 ms, until stopped: how many were served, and what happened to the others. */
function load(client: TestPod) {
  let running = true;
  const faults: string[] = [];
  let served = 0;
  const one = async (): Promise<void> => {
    try {
      const socket = await client.connect(CART);
      if (await echoes(socket)) served += 1;
      else faults.push('reset');
      socket.end();
    } catch (thrown) {
      faults.push(String(thrown));
    }
  };
  const done = (async () => {
    const all: Promise<void>[] = [];
    while (running) {
      all.push(one());
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await Promise.all(all);
  })();
  const stop = async () => {
    running = false;
    await done;
    return { served, faults };
  };
  return { stop };
}

for (const [from, to, backend] of [
  ['2', '2', 'native'],
  ['2', '1', 'native'],
  ['1', '2', 'native'],
  ['main', 'main', 'portable'],
] as const)
  t.test(`under load, from ${from} threads to ${to}, ${backend}`, async (t) => {
    const { start, ready, opened, client } = await setUp(t);
    const env = (threads: string) => ({ ZTUNNEL_WORKER_THREADS: threads, CULVERT_BACKEND: backend });
    const first = start([], env(from));
    await ready();
    const kept = await client.connect(CART);
    t.ok(await echoes(kept));
    const clients = load(client);
    await eventually('some connections', async () => ((await opened()) > 20 ? true : undefined));
    const before = await opened();
    const second = start(['--takeover'], env(to));
    await eventually('the new one serves', () => (second.log().includes('admin_port') ? true : undefined));
    t.ok((await opened()) >= before, 'counters do not go back');
    t.ok(await echoes(kept), 'what is open goes on');
    kept.end();
    t.equal(await first.exit, 0, 'the old one has drained');
    await ready();
    const { served, faults } = await clients.stop();
    t.strictSame(faults, [], `${served} connections served`);
    await eventually('all counts', async () => ((await opened()) >= served + 1 ? true : undefined));
    t.equal(await opened(), served + 1, 'each was counted once');
    t.match(second.log(), /has drained and ended/u);
  });

t.test('an unknown version is refused with the reason, and the old one goes on', async (t) => {
  const { dir, start, ready, client } = await setUp(t);
  const first = start([]);
  await ready();
  using conn = await connectSeqpacket(join(dir, 'takeover.sock'));
  await conn.send(Buffer.from('{"type":"hello","version":99,"build":"later"}'));
  const answer = await conn.receive();
  t.match(JSON.parse(Buffer.from(answer?.data ?? []).toString()), { type: 'refused', reason: /version 99/u });
  t.ok(await echoes(await client.connect(CART)));
  t.equal(first.child.exitCode, null);
});

t.test('a successor that dies before it serves changes nothing', async (t) => {
  const { dir, start, ready, client } = await setUp(t);
  const first = start([]);
  await ready();
  const conn = await connectSeqpacket(join(dir, 'takeover.sock'));
  await conn.send(Buffer.from('{"type":"hello","version":1,"build":"x"}'));
  await conn.receive();
  await conn.send(Buffer.from('{"type":"give"}'));
  await conn.receive();
  conn.close();
  await eventually('the fault is told', () => (first.log().includes('a takeover failed') ? true : undefined));
  t.ok(await echoes(await client.connect(CART)));
  const second = start(['--takeover']);
  t.equal(await first.exit, 0, 'the next one takes over');
  await ready();
  t.ok(await echoes(await client.connect(CART)));
  t.equal(second.child.exitCode, null);
});

t.test('--takeover where none runs starts as usual', async (t) => {
  const { start, ready, client } = await setUp(t);
  const only = start(['--takeover']);
  await ready();
  t.ok(await echoes(await client.connect(CART)));
  t.match(only.log(), /starts as usual/u);
});
