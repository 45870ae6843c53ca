// The data plane in worker threads: one mesh for all of them, one set of numbers, and a worker that ends is no more than its connections.
import type { Socket } from 'node:net';
import type { Worker } from 'node:worker_threads';
import t from 'tap';
import type { Test } from 'tap';
import { aMatch, aPolicy, aWorkload } from '../../fixtures/mesh.ts';
import { eventually, MeshLab } from '../../harness/mesh-lab.ts';
import type { LabNode } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

async function start(t: Test, env: Record<string, string>) {
  const lab = new MeshLab(t);
  const workers: Worker[] = [];
  const onWorker = (worker: Worker): void => void workers.push(worker);
  process.on('worker', onWorker);
  t.teardown(() => process.off('worker', onWorker));
  const node = await lab.node('node-1', env);
  await lab.apply(web, api, cart);
  const client = await lab.captured(web);
  const server = await lab.captured(api);
  await server.serve((socket) => socket.pipe(socket), 8080);
  return { lab, node, workers, client };
}

const TO_API = { ip: '10.1.0.2', port: 8080 };

/** Connections that echo; opened one by one, so that each has its own source port. */
async function open(client: TestPod, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = await client.connect(TO_API);
    socket.on('error', () => undefined);
    sockets.push(socket);
    await echo(socket);
  }
  return sockets;
}

async function echo(socket: Socket): Promise<void> {
  socket.write('hi');
  const data = new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk))));
  const answer = await Promise.race([data, closed([socket]).then(() => 'closed')]);
  if (answer !== 'hi') throw new Error(`the connection is ${answer}`);
}

/** Also those that end with a reset. */
async function closed(sockets: readonly Socket[]): Promise<void> {
  for (const socket of sockets) if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

interface Dump {
  dataPlane: { workers: number; backend: string };
  workloadState: Record<string, { connections: { inbound: object[]; outbound: object[] } }>;
}

async function dump(node: LabNode): Promise<Dump> {
  return (await (await fetch(`http://127.0.0.1:${node.app.ports.admin}/config_dump`)).json()) as Dump;
}

for (const backend of ['native', 'portable'] as const)
  for (const reuse of ['true', 'false'])
    t.test(`two workers, ${backend}, sockets of their own: ${reuse}`, async (t) => {
      const { lab, node, client } = await start(t, {
        ZTUNNEL_WORKER_THREADS: '2',
        CULVERT_BACKEND: backend,
        INPOD_PORT_REUSE: reuse,
      });
      const sockets = await open(client, 12);
      t.equal(await node.metric('istio_tcp_connections_opened_total', 'reporter="source"'), 12);
      t.equal(await node.metric('istio_tcp_sockets_open', 'reporter="destination"'), 12);
      const { dataPlane, workloadState } = await dump(node);
      t.strictSame(dataPlane, { workers: 2, backend });
      t.equal(workloadState['zds-web']?.connections.outbound.length, 12);
      t.equal(workloadState['zds-api']?.connections.inbound.length, 12);
      await lab.apply(aPolicy('none', { action: 'Deny', matches: [aMatch({ destinationPorts: [8080] })] }));
      await closed(sockets);
      for (let i = 0; i < 12; i++) await t.rejects(open(client, 1), 'no worker is behind the policy');
      t.equal(await node.metric('istio_tcp_sockets_open'), 0);
      const lines = (): number => node.lines.filter((line) => line['direction'] === 'inbound').length;
      await eventually('a line of each connection', () => lines() === 24 || undefined);
    });

t.test('a limit of connections holds for all workers together', async (t) => {
  const { node, client } = await start(t, { ZTUNNEL_WORKER_THREADS: '2', CULVERT_BACKEND: 'native', MAX_CONNECTIONS: '6' });
  const sockets = await open(client, 6);
  await t.rejects(open(client, 1));
  t.equal(await node.metric('culvert_connections_shed_total', 'outbound'), 1);
  sockets.pop()?.end();
  await eventually('room for one', () =>
    open(client, 1).then(
      () => true,
      () => undefined,
    ),
  );
});

for (const backend of ['native', 'portable'] as const)
  t.test(`a worker that fails is replaced, ${backend}: its connections end, the others go on, none is refused`, async (t) => {
    const { lab, node, workers, client } = await start(t, { ZTUNNEL_WORKER_THREADS: '2', CULVERT_BACKEND: backend });
    await lab.node('node-2', { ZTUNNEL_WORKER_THREADS: '1', CULVERT_BACKEND: backend });
    const remote = await lab.captured(cart);
    await remote.serve((socket) => socket.pipe(socket), 8080);
    const sockets = await open(client, 12);
    workers[0]?.postMessage({ message: { kind: 'of no kind' } });
    await eventually('some connections end', () => sockets.some((socket) => socket.closed) || undefined);
    const fresh = await open(client, 12);
    const left = sockets.filter((socket) => !socket.closed);
    t.ok(left.length > 0 && left.length < 12, `${left.length} of 12 live on`);
    for (const socket of [...left, ...fresh]) await echo(socket);
    await eventually('readiness', () => node.app.readiness.ready || undefined);
    t.equal(await node.metric('culvert_worker_restarts_total'), 1);
    t.equal(await node.metric('istio_tcp_sockets_open', 'source'), left.length + 12);
    t.equal(await node.metric('istio_tcp_connections_opened_total', 'reporter="source"'), 24, 'its counts stay');
    const tunnelled = await client.connect({ ip: '10.1.0.3', port: 8080 });
    await echo(tunnelled);
  });

t.test('a worker that is ended from outside is replaced too, and what it held is closed', async (t) => {
  const { node, workers, client } = await start(t, { ZTUNNEL_WORKER_THREADS: '1', CULVERT_BACKEND: 'native' });
  const before = await open(client, 2);
  await workers[0]?.terminate();
  await open(client, 2);
  await closed(before);
  t.equal(await node.metric('culvert_worker_restarts_total'), 1);
  t.equal(await node.metric('istio_tcp_connections_opened_total', 'reporter="source"'), 4, 'what it had counted is not lost');
  t.equal(await node.metric('istio_tcp_received_bytes_total', 'reporter="source"'), 8, 'nor the bytes of what was open');
  t.equal(await node.metric('istio_tcp_sockets_open', 'reporter="source"'), 2);
});

t.test('a scrape is answered while a worker is busy, with what it has counted', async (t) => {
  const { node, client } = await start(t, { ZTUNNEL_WORKER_THREADS: '1', CULVERT_BACKEND: 'native' });
  await open(client, 2);
  let busy = true;
  // Its thread stands still meanwhile.
  const snapshot = fetch(`http://127.0.0.1:${node.app.ports.admin}/debug/pprof/heap?worker=0`)
    .then((response) => response.arrayBuffer())
    .finally(() => (busy = false));
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    t.equal(await node.metric('istio_tcp_received_bytes_total', 'reporter="source"'), 4);
  }
  t.ok(busy, 'no scrape waited for it');
  await snapshot;
});

t.test('log levels reach the workers', async (t) => {
  const { node, client } = await start(t, { ZTUNNEL_WORKER_THREADS: '1', CULVERT_BACKEND: 'native' });
  const level = (value: string) => fetch(`http://127.0.0.1:${node.app.ports.admin}/logging?level=${value}`, { method: 'POST' });
  await level('access=off');
  for (const socket of await open(client, 1)) socket.destroy();
  await eventually('the end', async () => ((await node.metric('istio_tcp_sockets_open')) === 0 ? true : undefined));
  await level('access=info');
  for (const socket of await open(client, 1)) socket.end();
  await node.line({ direction: 'outbound' });
  t.equal(node.lines.filter((line) => line['direction'] === 'outbound').length, 1);
});
