// What a client sent before its tunnel was there goes along with CONNECT to peers that take it so, and no application gets it twice
// (decision 0026). Peers are Node's own HTTP/2, which sees what comes when.
import { once } from 'node:events';
import type { ServerHttp2Stream } from 'node:http2';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { SettingId } from '#shared/http2/frames.ts';
import { MSG } from '#shared/os/layout.ts';
import { clientTcp, startConnect } from '#shared/os/socket-factory.ts';
import { check, libc } from '#shared/os/syscalls.ts';
import { aService, aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { type LabNode, MeshLab } from '../harness/mesh-lab.ts';
import { serveHttp2 } from '../harness/node-http2.ts';
import type { TestPod } from '../harness/pod-net.ts';

t.setTimeout(60_000);

const TAKES_EARLY = { customSettings: { [SettingId.earlyData]: 1 } };
const services = { shop: { 80: 8080 } };
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const good = aWorkload('good', { node: 'node-2', ips: ['10.1.0.3'], services });
/** Drawn first. */
const bad = aWorkload('bad', { node: 'node-2', ips: ['10.1.0.4'], services, capacity: 1_000_000 });
const shop = { ip: '10.96.0.1', port: 80 };
/** How long a peer waits to see whether anything comes before its answer, ms. */
const PATIENCE = 300;

interface Mesh {
  readonly lab: MeshLab;
  readonly node: LabNode;
  readonly client: TestPod;
}

async function meshOf(t: Test): Promise<Mesh> {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1', { CULVERT_BACKEND: 'native', ZTUNNEL_WORKER_THREADS: 'main' });
  await lab.node('node-2', { CULVERT_BACKEND: 'native' });
  await lab.apply(web, good, bad, aService('shop', { vips: [shop.ip] }));
  return { lab, node, client: await lab.captured(web) };
}

/**
 * Connects and sends in one go, before the ztunnel, which runs in this thread, can accept, or while it waits for the answer to CONNECT, `late` ms after that; reads what
 * comes back until so many bytes or its end.
 */
async function exchange(client: TestPod, to: HostPort, text: string, { count = text.length, late = 0 } = {}): Promise<Endpoint> {
  const fd = clientTcp({ to, netns: client.netns.fd });
  const started = startConnect(fd, to);
  if (started !== 0) throw new Error(`connect: errno ${started}`);
  if (late > 0) await sleep(late);
  const bytes = Buffer.from(text);
  const sent = check(libc().send(fd, bytes, bytes.length, MSG.NOSIGNAL), 'send what comes first', 'send');
  const end = new Endpoint(new Socket({ fd }));
  if (sent < bytes.length) end.socket.write(bytes.subarray(sent));
  await end.gets(count);
  return end;
}

/** What came through the stream before the answer, which is an echo. */
function earlyThenEcho(early: string[]): (stream: ServerHttp2Stream) => void {
  return (stream) => {
    const chunks: Buffer[] = [];
    const note = (chunk: Buffer): void => void chunks.push(chunk);
    stream.on('data', note);
    setTimeout(() => {
      stream.off('data', note);
      early.push(Buffer.concat(chunks).toString());
      stream.respond({ ':status': 200 });
      for (const chunk of chunks) stream.write(chunk);
      stream.pipe(stream);
    }, PATIENCE);
  };
}

t.test('to a peer that takes it before its answer', async (t) => {
  const { lab, node, client } = await meshOf(t);
  const early: string[] = [];
  const options = { settings: TAKES_EARLY, serve: earlyThenEcho(early) };
  await serveHttp2(t, lab.pod(good), lab.ca.issue(good.identity), 'TLSv1.3', options);
  const at = { ip: '10.1.0.3', port: 8080 };
  // The first tunnel of a connection is asked for before the peer could say what it takes.
  (await exchange(client, at, 'warm')).socket.destroy();
  const end = await exchange(client, at, 'hello');
  t.equal(early.at(-1), 'hello');
  end.socket.end('more');
  await end.until('end');
  t.equal(end.bytes, 9, 'each byte once');
  const big = 'x'.repeat(300_000);
  const long = await exchange(client, at, big);
  const kept = early.at(-1)?.length ?? 0;
  t.ok(kept > 0 && kept <= 16_384, `${kept} bytes: no more than is kept for another endpoint`);
  t.equal(long.bytes, big.length);
  long.socket.destroy();
  const line = await node.line({ direction: 'outbound', bytes_sent: 9 });
  t.match(line, { bytes_recv: 9 });
  const slow = await exchange(client, at, 'as it waits', { late: PATIENCE / 3 });
  t.equal(early.at(-1), 'as it waits');
  slow.socket.end(', and later');
  await slow.until('end');
  t.equal(slow.bytes, 22, 'each byte once');
  const silent = new Endpoint(client.dial(at));
  await once(silent.socket, 'connect');
  await sleep(2 * PATIENCE);
  t.equal(early.at(-1), '', 'a client that waits has its connection all the same');
  silent.socket.write('late');
  await silent.untilBytes(4);
  silent.socket.destroy();
});

t.test('a peer that goes away and has not processed the tunnel: the next connection gets it', async (t) => {
  const { lab, client } = await meshOf(t);
  const early: string[] = [];
  let tunnels = 0;
  const serve = (stream: ServerHttp2Stream): void => {
    tunnels++;
    if (tunnels !== 2) return earlyThenEcho([])(stream);
    return void stream.once('data', (chunk: Buffer) => {
      early.push(chunk.toString());
      stream.session?.goaway(0, 1);
    });
  };
  await serveHttp2(t, lab.pod(good), lab.ca.issue(good.identity), 'TLSv1.3', { settings: TAKES_EARLY, serve });
  const at = { ip: '10.1.0.3', port: 8080 };
  (await exchange(client, at, 'warm')).socket.destroy();
  const end = await exchange(client, at, 'order 1');
  t.same([early, tunnels, end.bytes], [['order 1'], 3, 7]);
  end.socket.destroy();
});

t.test('to a peer that does not say so', async (t) => {
  const { lab, client } = await meshOf(t);
  const early: string[] = [];
  await serveHttp2(t, lab.pod(good), lab.ca.issue(good.identity), 'TLSv1.3', { serve: earlyThenEcho(early) });
  for (const [text, late] of [
    ['one', 0],
    ['two', 0],
    ['three', PATIENCE / 3],
  ] as const) {
    const end = await exchange(client, { ip: '10.1.0.3', port: 8080 }, text, { late });
    t.equal(end.bytes, text.length);
    end.socket.destroy();
  }
  t.same(early, ['', '', '']);
});

/** `bad` takes the first tunnel, so that its connection is there, and does this with all others. */
async function badPeer(
  t: Test,
  { lab, client }: Mesh,
  serve: (stream: ServerHttp2Stream, raw: Socket | undefined) => void,
): Promise<string[]> {
  const seen: string[] = [];
  let tunnels = 0;
  const peer = await serveHttp2(t, lab.pod(bad), lab.ca.issue(bad.identity), 'TLSv1.3', {
    settings: TAKES_EARLY,
    serve: (stream) => {
      tunnels++;
      if (tunnels === 1) return earlyThenEcho([])(stream);
      return void stream.once('data', (chunk: Buffer) => {
        seen.push(chunk.toString());
        serve(stream, peer.raw.at(-1));
      });
    },
  });
  (await exchange(client, shop, 'warm')).socket.destroy();
  return seen;
}

for (const late of [0, PATIENCE / 3])
  t.test(`a peer that answers 503 has given it to nobody: another endpoint gets it (${late} ms)`, async (t) => {
    const mesh = await meshOf(t);
    const early: string[] = [];
    const options = { settings: TAKES_EARLY, serve: earlyThenEcho(early) };
    await serveHttp2(t, mesh.lab.pod(good), mesh.lab.ca.issue(good.identity), 'TLSv1.3', options);
    const seen = await badPeer(t, mesh, (stream) => {
      stream.respond({ ':status': 503 }, { endStream: true });
    });
    const end = await exchange(mesh.client, shop, 'order 1', { late });
    t.same([seen, end.bytes], [['order 1'], 7]);
    end.socket.end();
    t.match(await mesh.node.line({ direction: 'outbound', bytes_sent: 7 }), { 'dst.workload': 'good', bytes_recv: 7 });
  });

for (const [what, serve] of [
  ['resets the tunnel', (stream: ServerHttp2Stream) => stream.close(2)],
  ['is gone', (stream: ServerHttp2Stream) => stream.session?.destroy()],
  ['breaks TLS', (_stream: ServerHttp2Stream, raw: Socket | undefined) => void raw?.write(Buffer.alloc(1000, 'no record'))],
] as const)
  for (const late of [0, PATIENCE / 3])
    t.test(`a peer that ${what} without an answer may have given it away: no other endpoint gets it (${late} ms)`, async (t) => {
      const mesh = await meshOf(t);
      const early: string[] = [];
      const options = { settings: TAKES_EARLY, serve: earlyThenEcho(early) };
      await serveHttp2(t, mesh.lab.pod(good), mesh.lab.ca.issue(good.identity), 'TLSv1.3', options);
      const seen = await badPeer(t, mesh, serve);
      const end = await exchange(mesh.client, shop, 'order 1', { count: 1, late });
      await end.until('closed');
      t.same([seen, early, end.seen, end.bytes], [['order 1'], [], ['reset', 'closed'], 0]);
      t.match(await mesh.node.line({ direction: 'outbound', level: 'error' }), { 'dst.workload': 'bad' });
    });

t.test('between two of ours: a refused tunnel, and one after which the application speaks first', async (t) => {
  const { lab, node, client } = await meshOf(t);
  const server = await lab.captured(good);
  await server.serve((socket) => void socket.pipe(socket), 8080);
  await server.serve((socket) => void socket.end('welcome'), 8081);
  const to = (port: number): { ip: string; port: number } => ({ ip: '10.1.0.3', port });
  for (let round = 0; round < 20; round++) {
    const end = await exchange(client, to(8080), `round ${round}`);
    t.equal(end.bytes, `round ${round}`.length);
    end.socket.end();
    await end.until('end');
  }
  const first = new Endpoint(client.dial(to(8081)));
  await first.untilBytes(7);
  await first.until('end');
  first.socket.end();
  const nobody = await exchange(client, to(9999), 'is anybody there?', { count: 1 });
  await nobody.until('closed');
  t.same(nobody.seen, ['reset', 'closed']);
  t.match(await node.line({ direction: 'outbound', level: 'error' }), { error: /503 Service Unavailable/u });
});
