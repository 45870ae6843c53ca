// Nodes whose ztunnels are replaced while they serve, as processes: two pods on the first, one on the second, state from a file, and a CA.
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { applyPodRules } from '../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../cni/rules/pod.ts';
import { TestControlPlane } from './control-plane.ts';
import { eventually } from './mesh-lab.ts';
import type { PodNet, TestPod } from './pod-net.ts';
import { createPodNet } from './pod-net.ts';
import { createTestCa } from './test-ca.ts';
import { ZdsAgent } from './zds-agent.ts';

export const STATE = `
workloads:
  - { name: web, namespace: shop, node: node-1, protocol: HBONE, workloadIps: [10.1.0.1] }
  - { name: cart, namespace: shop, node: node-1, protocol: HBONE, workloadIps: [10.1.0.2] }
  - { name: api, namespace: shop, node: node-2, protocol: HBONE, workloadIps: [10.1.0.4] }
`;
/** An echo on the first node. */
export const CART = { ip: '10.1.0.2', port: 8080 };
/** One on the second. */
export const API = { ip: '10.1.0.4', port: 8080 };

export interface TakeoverLab {
  readonly dir: string;
  readonly net: PodNet;
  readonly plane: TestControlPlane;
}

export async function takeoverLab(t: Test): Promise<TakeoverLab> {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-takeover-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'state.yaml'), STATE);
  // A connection that was accepted while the pods change hands meets its destination in the other process, through a tunnel.
  const plane = new TestControlPlane(createTestCa());
  t.teardown(() => plane.stop());
  await plane.start();
  return { dir, net: createPodNet(t), plane };
}

/** A pod of the node, redirected. */
export interface NodePod {
  readonly name: string;
  readonly ip: string;
}

export async function takeoverNode(t: Test, { dir: root, net, plane }: TakeoverLab, node: string, pods: readonly NodePod[]) {
  const dir = await mkdtemp(join(root, `${node}-`));
  const [admin, stats, readiness] = await freePorts();
  const env: Record<string, string> = {
    NODE_NAME: node,
    XDS_ADDRESS: '',
    CA_ADDRESS: plane.address,
    LOCAL_XDS_PATH: join(root, 'state.yaml'),
    INPOD_UDS: join(dir, 'zds.sock'),
    ADMIN_PORT: String(admin),
    STATS_PORT: String(stats),
    READINESS_PORT: String(readiness),
    CONNECTION_TERMINATION_DEADLINE: '3s',
  };
  const agent = new ZdsAgent(t, join(dir, 'zds.sock'));
  const served: TestPod[] = [];
  for (const { name, ip } of pods) {
    const pod = net.pod(name, ip);
    served.push(pod);
    agent.pods.set(`uid-${pod.name}`, {
      uid: `uid-${pod.name}`,
      name: pod.name,
      namespace: 'shop',
      serviceAccount: 'default',
      netns: pod.netns.fd,
    });
    await applyPodRules(pod.netns.fd, { ...DEFAULT_POD_RULES, dnsCapture: false });
  }
  /** `flags`: of Node. */
  const start = (args: readonly string[], overrides: Record<string, string> = {}, flags: readonly string[] = []) => {
    const all = { PATH: process.env['PATH'], ...env, ...overrides };
    const child = spawn(process.execPath, [...flags, 'ztunnel/main.ts', ...args], {
      env: all,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
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
  const ready = () => {
    let answer = '';
    return eventually(
      () => `readiness: ${answer}`,
      async () => {
        answer = await get(readiness, '/healthz/ready').catch(String);
        return answer === 'ready\n' ? true : undefined;
      },
    );
  };
  const opened = async (): Promise<number> => {
    const lines = (await get(stats, '/metrics')).split('\n');
    return lines
      .filter((line) => line.startsWith('istio_tcp_connections_opened_total{reporter="source"'))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  };
  return { dir, start, ready, opened, metrics: () => get(stats, '/metrics'), pods: served };
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

export async function echoes(socket: Socket): Promise<boolean> {
  socket.write('hi');
  return Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]).catch(() => false);
}

/** A connection that always has bytes on their way, both ways: what comes back is what was sent. */
export function streamOf(socket: Socket) {
  const [sent, received] = [createHash('sha256'), createHash('sha256')];
  const counts = { sent: 0, received: 0 };
  const faults: string[] = [];
  let running = true;
  socket.on('error', (error) => void faults.push(error.message));
  socket.on('data', (chunk: Buffer) => {
    received.update(chunk);
    counts.received += chunk.length;
  });
  const over = once(socket, 'end').catch(() => undefined);
  const done = (async () => {
    while (running && faults.length === 0) {
      const block = randomBytes(1 + Math.floor(Math.random() * 60_000));
      sent.update(block);
      counts.sent += block.length;
      if (!socket.write(block)) await once(socket, 'drain').catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    socket.end();
  })();
  return {
    counts,
    faults,
    /** Ends the sending; whether all came back. */
    async whole(): Promise<boolean> {
      running = false;
      await done;
      await over;
      return faults.length === 0 && counts.sent === counts.received && sent.digest('hex') === received.digest('hex');
    },
  };
}
