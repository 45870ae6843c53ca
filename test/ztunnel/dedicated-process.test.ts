// A dedicated ztunnel as the process that an operator starts, in a pod's network, against a control plane: whose certificate it asks for,
// when it is ready, its names, and what it can do without capabilities.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import t from 'tap';
import type { Test } from 'tap';
import { applyPodRules } from '../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../cni/rules/pod.ts';
import { aService, aWorkload } from '../fixtures/mesh.ts';
import { TestControlPlane } from '../harness/control-plane.ts';
import { askUdp, DNS_PROXY } from '../harness/dns.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import { createPodNet, type TestPod } from '../harness/pod-net.ts';

t.setTimeout(90_000);

const alone = aWorkload('alone', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], services: { cart: {} } });
const service = aService('cart', { vips: ['10.96.0.1'] });
const DEDICATED = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'shop/alone/alone', NODE_NAME: 'node-1', LOG_FORMAT: 'json' };

/** For a ztunnel without a control plane. */
const STATE = `
workloads:
  - { name: alone, namespace: shop, serviceAccount: alone, node: node-1, protocol: HBONE, workloadIps: [10.1.0.1] }
`;

interface Process {
  readonly output: () => string;
  readonly exit: Promise<number | null>;
}

/** Starts a ztunnel in the pod's network, by a program that changes what it may do; ends it with the test. */
function start(t: Test, pod: TestPod, env: Record<string, string>, by: readonly string[] = []): Process {
  const args = ['netns', 'exec', pod.netns.name, ...by, process.execPath, 'ztunnel/main.ts'];
  const all = { PATH: process.env['PATH'], ...DEDICATED, ...env };
  const child = spawn('ip', args, { env: all, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => void (output += chunk.toString()));
  const exit = once(child, 'exit').then(([code]) => code as number | null);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  return { output: () => output, exit };
}

/** Status and body of its readiness page; undefined while nobody listens. */
async function readiness(pod: TestPod): Promise<string | undefined> {
  const sent = request({ path: '/healthz/ready', createConnection: () => pod.dial({ ip: '127.0.0.1', port: 15_021 }) }).end();
  const response = await once(sent, 'response').then(
    ([answer]) => answer as IncomingMessage,
    () => undefined,
  );
  return response && `${response.statusCode} ${await text(response)}`;
}

/** The control plane as a port of the pod's loopback, once it is let through. */
async function reach(pod: TestPod, plane: TestControlPlane, open: Promise<void>): Promise<string> {
  const port = await pod.serve((socket) => {
    void open.then(() => {
      const upstream = connect(plane.port, '127.0.0.1');
      for (const end of [upstream, socket]) {
        end.on('error', () => undefined);
        end.once('close', () => [upstream, socket].forEach((each) => each.destroy()));
      }
      socket.pipe(upstream).pipe(socket);
    });
  });
  return `http://127.0.0.1:${port}`;
}

async function talk(from: TestPod, to: { ip: string; port: number }): Promise<void> {
  const end = await Endpoint.open(from, to);
  end.socket.write('hello');
  await end.untilBytes(5);
  end.socket.end();
  await end.until('closed');
}

t.test('against a control plane', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-2');
  await lab.apply(alone, cart, service);
  const [pod, server] = [lab.pod(alone), await lab.captured(cart)];
  const plane = new TestControlPlane(lab.ca);
  t.teardown(() => plane.stop());
  plane.holder = alone.identity;
  for (const workload of [{ ...alone, clusterId: 'far' }, cart]) plane.setWorkload(workload);
  plane.setService(service);
  await plane.start();
  const letThrough = Promise.withResolvers<void>();
  const address = await reach(pod, plane, letThrough.promise);
  start(t, pod, {
    XDS_ADDRESS: address,
    CA_ADDRESS: address,
    AUTH_TOKEN: 'the token of this pod',
    CLUSTER_ID: 'far',
    PACKET_MARK: '1337',
  });
  await applyPodRules(pod.netns.fd, DEFAULT_POD_RULES);

  const before = await eventually('its readiness page', () => readiness(pod));
  t.match(before, /^500 not ready, pending: .*\bproxy, state manager\n$/u, 'it waits for the state');
  t.notMatch(before, /workload proxy manager/u, 'and for no CNI agent');
  t.equal(plane.issued, 0);
  letThrough.resolve();
  await eventually('readiness', async () => (await readiness(pod)) === '200 ready\n' || undefined);

  await server.serve((socket) => void socket.pipe(socket), 8080);
  await pod.serve((socket) => void socket.pipe(socket), 8080);
  await talk(pod, { ip: '10.1.0.3', port: 8080 });
  await node.line({ direction: 'inbound', level: 'info', 'src.identity': alone.identity, 'dst.hbone_addr': '10.1.0.3:8080' });
  await talk(server, { ip: '10.1.0.1', port: 8080 });
  await node.line({ direction: 'outbound', level: 'info', 'dst.identity': alone.identity, 'dst.addr': '10.1.0.1:15008' });

  t.ok(plane.issued > 0);
  t.same(
    new Set(plane.requests.map((asked) => JSON.stringify(asked))),
    new Set([JSON.stringify({ impersonated: undefined, authorization: 'Bearer the token of this pod', clusterId: 'far' })]),
    'it asks for itself, by its token, and for nobody else',
  );

  const reply = await askUdp(pod.netns.fd, DNS_PROXY, { name: 'cart', type: 'A' });
  t.match(reply.answers, [{ type: 'A', data: '10.96.0.1' }], 'names are those of its own namespace');
});

t.test('without capabilities: no client’s address, unless that is required', async (t) => {
  const net = createPodNet(t);
  const pod = net.pod('alone', '10.1.0.1');
  const bare = ['setpriv', '--bounding-set=-net_admin,-net_raw,-sys_admin'];
  const env = { XDS_ADDRESS: '', CA_ADDRESS: '' };
  const required = start(t, pod, { ...env, ENABLE_ORIG_SRC: 'true' }, bare);
  t.equal(await required.exit, 1);
  t.match(required.output(), /listen on \[::\]:15001: .*EPERM/u);
  const free = start(t, pod, { ...env, LOCAL_XDS: STATE }, bare);
  await eventually('readiness', async () => (await readiness(pod)) === '200 ready\n' || undefined);
  // The ztunnel's own connections have no mark to be told by.
  pod.netns.nft(`table ip test {
    chain prerouting { type nat hook prerouting priority dstnat; iifname "eth0" tcp dport 8080 redirect to :15006; }
  }`);
  const seen: string[] = [];
  await pod.serve((socket) => {
    seen.push(socket.remoteAddress ?? '');
    socket.pipe(socket);
  }, 8080);
  await talk(net.pod('stranger', '10.1.0.9'), { ip: '10.1.0.1', port: 8080 });
  t.strictSame(seen, ['::ffff:10.1.0.1'], 'the application sees the address of its own pod');
  await eventually('its line', () => /"connection complete","src.addr":"10.1.0.9:/u.test(free.output()) || undefined);
  t.notMatch(free.output(), /"level":"(?:warn|error)"/u, 'which is as it was asked for, and no fault');
});

for (const port of [15_001, 15_006, 15_008, 15_020, 15_021])
  t.test(`a taken port ${port} ends the start`, async (t) => {
    const pod = createPodNet(t).pod('alone', '10.1.0.1');
    await pod.serve((socket) => void socket.destroy(), port);
    const { exit, output } = start(t, pod, { XDS_ADDRESS: '', CA_ADDRESS: '', LOCAL_XDS: STATE });
    t.equal(await exit, 1);
    t.match(output(), new RegExp(`"level":"error".*(?:\\[::\\]:| port )${port}\\b.*EADDRINUSE`, 'u'));
  });
