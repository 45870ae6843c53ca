// The ztunnel as a process: what a starter sees of it, an orderly end, and a sudden one.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import t from 'tap';
import type { Test } from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { applyPodRules } from '../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../cni/rules/pod.ts';
import { eventually } from '../harness/mesh-lab.ts';
import { createPodNet } from '../harness/pod-net.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { ZdsAgent } from '../harness/zds-agent.ts';

const STATE = `
workloads:
  - { name: web, namespace: shop, node: node-1, protocol: HBONE, workloadIps: [10.1.0.1] }
  - { name: cart, namespace: shop, node: node-1, protocol: HBONE, workloadIps: [10.1.0.2], services: { shop/cart.shop: { 80: 8080 } } }
services:
  - { name: cart, namespace: shop, hostname: cart.shop, vips: [/10.96.0.1], ports: { 80: 8080 } }
policies:
  - { name: no-9000, namespace: shop, scope: Namespace, action: Deny, rules: [[[destinationPorts: [9000]]]] }
`;
const workload = (name: string, ip: string) => aWorkload(name, { ips: [ip], serviceAccount: 'default' });

interface Process {
  readonly child: ChildProcess;
  readonly lines: string[];
  readonly exit: Promise<number | null>;
}

class Setup {
  readonly env: Record<string, string>;
  readonly agent: ZdsAgent;
  readonly client: TestPod;
  readonly server: TestPod;
  readonly #t: Test;

  constructor(t: Test, env: Record<string, string>, agent: ZdsAgent, client: TestPod, server: TestPod) {
    this.#t = t;
    this.env = env;
    this.agent = agent;
    this.client = client;
    this.server = server;
  }

  static async create(t: Test): Promise<Setup> {
    const dir = await mkdtemp(join(tmpdir(), 'culvert-ztunnel-'));
    t.teardown(() => rm(dir, { recursive: true, force: true }));
    await writeFile(join(dir, 'state.yaml'), STATE);
    const ports = await freePorts(3);
    const env = {
      NODE_NAME: 'node-1',
      XDS_ADDRESS: '',
      CA_ADDRESS: 'http://127.0.0.1:1',
      LOCAL_XDS_PATH: join(dir, 'state.yaml'),
      INPOD_UDS: join(dir, 'zds.sock'),
      ADMIN_PORT: String(ports[0]),
      STATS_PORT: String(ports[1]),
      READINESS_PORT: String(ports[2]),
      CONNECTION_TERMINATION_DEADLINE: '2s',
    };
    const net = createPodNet(t);
    const agent = new ZdsAgent(t, join(dir, 'zds.sock'));
    const setup = new Setup(t, env, agent, net.pod('web', '10.1.0.1'), net.pod('cart', '10.1.0.2'));
    for (const [pod, ip] of [
      [setup.client, '10.1.0.1'],
      [setup.server, '10.1.0.2'],
    ] as const) {
      const { name, namespace, serviceAccount } = workload(pod.name, ip);
      agent.pods.set(`uid-${name}`, { uid: `uid-${name}`, name, namespace, serviceAccount, netns: pod.netns.fd });
      await applyPodRules(pod.netns.fd, { ...DEFAULT_POD_RULES, dnsCapture: false });
    }
    return setup;
  }

  /** Starts a ztunnel, by a program that changes what it may do; ends it with the test. */
  start(overrides: Record<string, string> = {}, by: readonly string[] = []): Process {
    const env = { PATH: process.env['PATH'], ...this.env, ...overrides };
    const line = [...by, process.execPath, 'ztunnel/main.ts'];
    const child = spawn(line[0] ?? '', line.slice(1), { env, stdio: ['ignore', 'pipe', 'inherit'] });
    const lines: string[] = [];
    child.stdout.on('data', (chunk: Buffer) => lines.push(...chunk.toString().split('\n').filter(Boolean)));
    const exit = once(child, 'exit').then(([code]) => code as number | null);
    this.#t.teardown(async () => {
      child.kill('SIGKILL');
      await exit;
    });
    return { child, lines, exit };
  }

  async get(port: string, path: string, init?: RequestInit): Promise<{ status: number; text: string } | undefined> {
    const response = await fetch(`http://127.0.0.1:${this.env[port]}${path}`, init).catch(() => undefined);
    return response && { status: response.status, text: await response.text() };
  }

  ready(): Promise<unknown> {
    return eventually('readiness', async () =>
      (await this.get('READINESS_PORT', '/healthz/ready'))?.status === 200 ? true : undefined,
    );
  }
}

function echo(socket: Socket): void {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end());
}

async function answers(socket: Socket): Promise<boolean> {
  socket.write('hi');
  return Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]).catch(() => false);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0);
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  for (const server of servers) server.close();
  return ports;
}

t.test('starts, serves, tells about itself, drains and exits 0', async (t) => {
  const setup = await Setup.create(t);
  const ztunnel = setup.start();
  await setup.ready();
  await setup.server.serve(echo, 8080);
  const socket = await setup.client.connect({ ip: '10.96.0.1', port: 80 });
  t.ok(await answers(socket));

  const dump = JSON.parse((await setup.get('ADMIN_PORT', '/config_dump'))?.text ?? '') as Record<string, unknown>;
  t.match(dump, {
    workloads: [{ name: 'web', protocol: 'HBONE', workloadIps: ['10.1.0.1'] }, { services: { 'shop/cart.shop': { 80: 8080 } } }],
    services: [{ hostname: 'cart.shop', vips: ['/10.96.0.1'] }],
    policies: [{ name: 'no-9000', action: 'Deny', rules: [[[{ destinationPorts: [9000] }]]] }],
    workloadState: {
      'uid-web': { state: 'Up', connections: { outbound: [{ originalDst: '10.96.0.1:80', protocol: 'TCP' }] } },
      'uid-cart': {
        state: 'Up',
        connections: { inbound: [{ actualDst: '10.1.0.2:8080' }] },
        info: { serviceAccount: 'default' },
      },
    },
    config: { localNode: 'node-1' },
  });
  const metrics = (await setup.get('STATS_PORT', '/metrics'))?.text ?? '';
  t.match(metrics, /^istio_build\{component="ztunnel",tag="unknown"\} 1$/mu);
  t.match(metrics, /^istio_tcp_received_bytes_total\{reporter="source",.*\} 2$/mu, 'bytes of a live connection count');
  t.match(metrics, /^istio_tcp_sockets_open\{reporter="destination"\} 1$/mu);
  t.match(metrics, /^workload_manager_active_proxy_count 2$/mu);
  t.match(await setup.get('ADMIN_PORT', '/logging?level=access=debug', { method: 'POST' }), { status: 200 });

  ztunnel.child.kill('SIGTERM');
  await eventually('the listeners to close', async () => {
    const late = await setup.client.connect({ ip: '10.1.0.2', port: 8080 }).catch(() => undefined);
    late?.destroy();
    return late ? undefined : true;
  });
  t.ok(await answers(socket), 'an open connection lives on while it drains');
  socket.end();
  t.equal(await ztunnel.exit, 0);
  t.ok(ztunnel.lines.some((line) => line.includes('connection complete') && line.includes('direction="inbound"')));
});

t.test('what is left at the deadline is cut', async (t) => {
  const setup = await Setup.create(t);
  const ztunnel = setup.start({ CONNECTION_TERMINATION_DEADLINE: '200ms' });
  await setup.ready();
  await setup.server.serve(echo, 8080);
  const socket = await setup.client.connect({ ip: '10.1.0.2', port: 8080 });
  t.ok(await answers(socket));
  const gone = new Promise((resolve) => socket.once('close', resolve));
  t.match(await setup.get('ADMIN_PORT', '/quitquitquit', { method: 'POST' }), { status: 200, text: 'shutdown now\n' });
  await gone;
  t.equal(await ztunnel.exit, 0);
  t.ok(ztunnel.lines.some((line) => line.includes('connection closed due to connection drain')));
});

t.test('killed and started again: every pod is served as before', async (t) => {
  const setup = await Setup.create(t);
  const first = setup.start();
  await setup.ready();
  await setup.server.serve(echo, 8080);
  t.ok(await answers(await setup.client.connect({ ip: '10.1.0.2', port: 8080 })));
  first.child.kill('SIGKILL');
  await first.exit;
  await t.rejects(setup.client.connect({ ip: '10.1.0.2', port: 8080 }), { code: 'ECONNREFUSED' }, 'closed while it is down');
  const started = performance.now();
  setup.start();
  await eventually('service', async () => {
    const socket = await setup.client.connect({ ip: '10.1.0.2', port: 8080 }).catch(() => undefined);
    return socket && (await answers(socket)) ? true : undefined;
  });
  t.comment(`served again ${Math.round(performance.now() - started)} ms after the start`);
});

t.test('a start that cannot succeed says why and exits 1', async (t) => {
  const setup = await Setup.create(t);
  const faulty = setup.start({ PACKET_MARK: 'x', SAME_NODE: 'maybe', KEEPALIVE_TIME: '3' });
  t.equal(await faulty.exit, 1);
  const text = faulty.lines.join('\n');
  for (const name of ['PACKET_MARK', 'SAME_NODE', 'KEEPALIVE_TIME']) t.ok(text.includes(name), name);
  const taken = createServer().listen(0, '127.0.0.1');
  t.teardown(() => taken.close());
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const second = setup.start({ ADMIN_PORT: String(port) });
  t.equal(await second.exit, 1);
  t.match(second.lines.join('\n'), new RegExp(`cannot listen on 127.0.0.1 port ${port}`, 'u'));
});

for (const missing of ['sys_admin', 'net_admin'])
  t.test(`a start without CAP_${missing.toUpperCase()} says what is needed and exits 1`, async (t) => {
    const setup = await Setup.create(t);
    // Either of both lets a socket be marked.
    const taken = missing === 'net_admin' ? '-net_admin,-net_raw' : `-${missing}`;
    const bare = setup.start({}, ['setpriv', `--bounding-set=${taken}`]);
    t.equal(await bare.exit, 1);
    t.match(
      bare.lines.join('\n'),
      /cannot open marked sockets in pods: .*EPERM.*; run with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW/u,
    );
  });
