// Both nodes of a mesh are upgraded under load: a hundred new connections a second, requests over connections that are kept, and eight bulk
// streams, within the node and through tunnels to the other one. Nobody is refused or reset.
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { HostPort } from '#shared/address.ts';
import { listenTcp } from '#shared/os/socket-factory.ts';
import { eventually } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';
import { API, CART, echoes, streamOf, takeoverLab, takeoverNode } from '../../harness/takeover-lab.ts';

t.setTimeout(120_000);

/** Long enough for what goes through tunnels to end by itself. */
const DRAIN = { CONNECTION_TERMINATION_DEADLINE: '20s' };
const HTTP = 8082;

/** New connections to each in turn, one every 10 ms, until stopped. */
function newConnections(client: TestPod, targets: readonly HostPort[]) {
  let running = true;
  let served = 0;
  const faults: string[] = [];
  const one = async (to: HostPort): Promise<void> => {
    try {
      const socket = await client.connect(to);
      if (await echoes(socket)) served += 1;
      else faults.push(`reset: ${to.ip}`);
      socket.end();
    } catch (thrown) {
      faults.push(`${to.ip}: ${String(thrown)}`);
    }
  };
  const done = (async () => {
    const all: Promise<void>[] = [];
    for (let next = performance.now(), index = 0; running; next += 10, index++) {
      all.push(one(targets[index % targets.length] ?? CART));
      await sleep(Math.max(0, next + 10 - performance.now()));
    }
    await Promise.all(all);
  })();
  return {
    async stop() {
      running = false;
      await done;
      return { served, faults };
    },
  };
}

/** Requests one after the other over a connection that is kept; another one only where the server has said that it ends. */
async function keepAlive(client: TestPod, to: HostPort) {
  const socket = await client.connect(to);
  let running = true;
  let [answered, broken] = [0, 0];
  socket.once('close', () => (broken += running ? 1 : 0));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  agent.createConnection = () => socket;
  const ask = (): Promise<void> =>
    new Promise((resolve, reject) => {
      request({ agent, path: '/' }, (response) => response.resume().once('end', resolve))
        .once('error', reject)
        .end();
    });
  const done = (async () => {
    while (running && broken === 0) {
      await ask().then(
        () => (answered += 1),
        () => (broken += 1),
      );
      await sleep(5);
    }
    socket.destroy();
  })();
  return {
    async stop() {
      running = false;
      await done;
      return { answered, broken };
    },
  };
}

async function serveHttp(pod: TestPod): Promise<void> {
  const { fd } = listenTcp({ netns: pod.netns.fd, address: { ip: '::', port: HTTP } });
  const server = createServer((_, response) => response.end('hello'));
  server.keepAliveTimeout = 60_000;
  t.teardown(() => server.close());
  server.listen({ fd });
  await once(server, 'listening');
}

t.test('both ztunnels are replaced under load', async (t) => {
  const lab = await takeoverLab(t);
  const near = await takeoverNode(t, lab, 'node-1', [
    { name: 'web', ip: '10.1.0.1' },
    { name: 'cart', ip: CART.ip },
  ]);
  const far = await takeoverNode(t, lab, 'node-2', [{ name: 'api', ip: API.ip }]);
  const [client, cart] = near.pods as [TestPod, TestPod];
  const [api] = far.pods as [TestPod];
  const echo = (socket: Socket): void => void socket.pipe(socket);
  for (const pod of [cart, api]) {
    await pod.serve(echo, CART.port);
    await serveHttp(pod);
  }
  const old = [near.start([], DRAIN), far.start([], DRAIN)];
  await Promise.all([near.ready(), far.ready()]);
  await eventually('tunnels', async () => {
    const socket = await client.connect(API);
    const answered = await echoes(socket);
    socket.destroy();
    return answered || undefined;
  });

  const connections = newConnections(client, [CART, API]);
  const kept = [await keepAlive(client, { ...CART, port: HTTP }), await keepAlive(client, { ...API, port: HTTP })];
  const bulk = [];
  for (let i = 0; i < 8; i++) bulk.push(streamOf(await client.connect(i % 2 === 0 ? CART : API)));
  await sleep(1000);
  for (const node of [near, far]) {
    const next = node.start(['--takeover'], DRAIN);
    await eventually('the new one serves', () => (next.log().includes('admin_port') ? true : undefined));
    await sleep(1000);
  }
  const { served, faults } = await connections.stop();
  t.strictSame(faults, [], `${served} new connections served`);
  t.ok(served > 200, `${served} of them`);
  for (const each of kept) {
    const { answered, broken } = await each.stop();
    t.equal(broken, 0, `${answered} requests answered over one connection`);
  }
  for (const [index, each] of bulk.entries()) t.ok(await each.whole(), `bulk ${index}: ${each.counts.sent} bytes, all came back`);
  for (const { exit } of old) t.equal(await exit, 0, 'the old one has drained');
});
