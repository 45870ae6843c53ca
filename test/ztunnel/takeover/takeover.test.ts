// A rolling upgrade of a node's ztunnel under load, as processes: no new connection is refused or reset, what is open goes on while the
// old one drains, and counters do not go back.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { connectSeqpacket } from '#shared/os/seqpacket.ts';
import { eventually } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';
import { CART, echoes, STATE, streamOf, takeoverLab, takeoverNode } from '../../harness/takeover-lab.ts';

t.setTimeout(90_000);

async function setUp(t: Test) {
  const lab = await takeoverLab(t);
  const node = await takeoverNode(t, lab, 'node-1', [
    { name: 'web', ip: '10.1.0.1' },
    { name: 'cart', ip: CART.ip },
  ]);
  const [client, server] = node.pods as [TestPod, TestPod];
  await server.serve((socket) => socket.pipe(socket), CART.port);
  return { ...node, net: lab.net, client, server };
}

/** New connections, one every 20 ms, until stopped: how many were served, and what happened to the others. */
function load(t: Test, client: TestPod) {
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
  // Before its pod goes: descriptors of namespaces are numbers, and those of the next test would be met.
  t.teardown(stop);
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
    const clients = load(t, client);
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
  await conn.send(Buffer.from('{"type":"hello","version":2,"build":"x"}'));
  await conn.receive();
  await conn.send(Buffer.from('{"type":"give","relays":true}'));
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

t.test('one takeover at a time: another one is refused, and may come when the first has given up', async (t) => {
  const { dir, start, ready, client } = await setUp(t);
  const first = start([]);
  await ready();
  const slow = await connectSeqpacket(join(dir, 'takeover.sock'));
  await slow.send(Buffer.from('{"type":"hello","version":2,"build":"slow"}'));
  await slow.receive();
  const second = start(['--takeover']);
  t.equal(await second.exit, 1, 'it ends, and says why');
  t.match(second.log(), /another takeover is under way/u);
  t.equal(first.child.exitCode, null);
  slow.close();
  await eventually('the first one gives up', () => (first.log().includes('a takeover failed') ? true : undefined));
  start(['--takeover']);
  t.equal(await first.exit, 0);
  await ready();
  t.ok(await echoes(await client.connect(CART)));
});

t.test('a message that is none ends the takeover, and the old one goes on', async (t) => {
  const { dir, start, ready, client } = await setUp(t);
  const first = start([]);
  await ready();
  for (const message of ['nonsense', '{"type":"serving"}', '{"type":"hello"}', '{"type":"hello","version":"2","build":"x"}']) {
    using conn = await connectSeqpacket(join(dir, 'takeover.sock'));
    await conn.send(Buffer.from(message));
    const answer = await conn.receive();
    t.match(Buffer.from(answer?.data ?? []).toString(), /"type":"refused"/u, message);
  }
  t.equal(first.child.exitCode, null);
  t.ok(await echoes(await client.connect(CART)));
});

t.test('--takeover where none runs starts as usual', async (t) => {
  const { start, ready, client } = await setUp(t);
  const only = start(['--takeover']);
  await ready();
  t.ok(await echoes(await client.connect(CART)));
  t.match(only.log(), /starts as usual/u);
});

for (const threads of ['2', 'main'])
  t.test(`relays without TLS never end: they go on through two takeovers, ${threads} threads`, async (t) => {
    const { net, start, ready, metrics, client, server } = await setUp(t);
    const env = { ZTUNNEL_WORKER_THREADS: threads };
    const outside = net.pod('outside', '10.1.0.9');
    await outside.serve((socket) => socket.pipe(socket), 9000);
    let [read, late] = [undefined as (() => void) | undefined, 0];
    await server.serve((socket) => {
      socket.pause();
      socket.on('data', (chunk: Buffer) => (late += chunk.length));
      socket.on('end', () => socket.end());
      read = () => void socket.resume();
    }, 8081);
    const first = start([], env);
    await ready();
    const streams = {
      'same node': streamOf(await client.connect(CART)),
      passthrough: streamOf(await client.connect({ ip: '10.1.0.9', port: 9000 })),
      plaintext: streamOf(await outside.connect(CART)),
    };
    // Nobody reads this one: bytes wait in the relay too.
    const stalled = await client.connect({ ip: CART.ip, port: 8081 });
    const waiting = randomBytes(16 << 20);
    stalled.end(waiting);
    // The application of this one has ended its side.
    const half = await client.connect({ ip: '10.1.0.9', port: 9000 });
    await new Promise((resolve) => setTimeout(resolve, 300));

    let before = first;
    for (const round of [1, 2]) {
      const next = start(['--takeover'], env);
      t.equal(await before.exit, 0, `takeover ${round}: the old one ends at once, as nothing keeps it`);
      t.match(before.log(), /relays go on in the other ztunnel/u);
      await ready();
      const counts = Object.values(streams).map(({ counts: { received } }) => received);
      await new Promise((resolve) => setTimeout(resolve, 500));
      for (const [index, [kind, { counts: now, faults }]] of Object.entries(streams).entries()) {
        t.strictSame(faults, [], kind);
        t.ok(now.received > (counts[index] ?? 0), `${kind} goes on`);
      }
      before = next;
    }
    half.end('still here');
    t.equal(String(((await once(half, 'data')) as [Buffer])[0]), 'still here');
    await once(half, 'end');
    read?.();
    await eventually('all that waited', () => (late === waiting.length ? true : undefined));
    for (const [kind, each] of Object.entries(streams))
      t.ok(await each.whole(), `${kind}: ${each.counts.sent} bytes, all came back`);
    const lines = await eventually('the lines', () => {
      const found = before
        .log()
        .split('\n')
        .filter((line) => line.includes('connection complete'));
      return found.length >= 7 ? found : undefined;
    });
    const { sent } = streams['same node'].counts;
    t.equal(
      lines.filter((line) => line.includes(`bytes_sent=${sent} bytes_recv=${sent}`)).length,
      2,
      'both sides tell all bytes',
    );
    const sum = async (name: string, labels: string): Promise<number> =>
      (await metrics())
        .split('\n')
        .filter((line) => line.startsWith(`${name}{`) && line.includes(labels))
        .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
    // Of the client: same node, passthrough, the stalled one, and the half-closed one; of the server: three.
    t.equal(await sum('istio_tcp_connections_opened_total', 'reporter="source"'), 4, 'each is counted once');
    t.equal(await sum('istio_tcp_connections_closed_total', 'reporter="source"'), 4);
    t.equal(await sum('istio_tcp_connections_opened_total', 'reporter="destination"'), 3);
    t.equal(await sum('istio_tcp_connections_closed_total', 'reporter="destination"'), 3);
    const bytes = streams['same node'].counts.sent + streams.passthrough.counts.sent + waiting.length + 'still here'.length;
    t.equal(await sum('istio_tcp_received_bytes_total', 'reporter="source"'), bytes, 'and so is each byte');
  });

t.test('a relay that the policies of the new one deny ends there', async (t) => {
  const { dir, start, ready, client } = await setUp(t);
  const first = start([]);
  await ready();
  const kept = await client.connect(CART);
  t.ok(await echoes(kept));
  const denied = `${STATE}
policies:
  - { name: no, namespace: shop, scope: Namespace, action: Deny, rules: [[[{ destinationPorts: [8080] }]]] }
`;
  await writeFile(join(dir, 'denied.yaml'), denied);
  const closed = once(kept, 'close').catch(() => undefined);
  const second = start(['--takeover'], { LOCAL_XDS_PATH: join(dir, 'denied.yaml') });
  t.equal(await first.exit, 0);
  await closed;
  await eventually('the line', () => (/connection complete.*policy rejection.*shop\/no/u.test(second.log()) ? true : undefined));
});

t.test('to the portable backend relays drain where they are', async (t) => {
  const { start, ready, client } = await setUp(t);
  const first = start([]);
  await ready();
  const kept = await client.connect(CART);
  t.ok(await echoes(kept));
  start(['--takeover'], { CULVERT_BACKEND: 'portable' });
  await eventually('the takeover', () => (first.log().includes('another ztunnel has taken over') ? true : undefined));
  t.ok(await echoes(kept));
  t.notMatch(first.log(), /relays go on/u);
  kept.end();
  t.equal(await first.exit, 0);
});
