// A real Envoy at the other end of tunnels, as server and as client: how connections end, how many share one, GOAWAY of either in the
// middle of transfers, and a gibibyte each way. What Envoy does otherwise than a ztunnel: docs/decisions/0016-envoy-interop.md.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { type EnvoyMesh, envoyMesh } from '../harness/envoy-mesh.ts';
import { noEnvoy } from '../harness/envoy.ts';
import { eventually } from '../harness/mesh-lab.ts';

t.setTimeout(300_000);

const MIB = 1 << 20;
/** Each way. The portable backend is a reference, not fast. */
const BULK: Record<Backend, number> = { native: 1024 * MIB, portable: 128 * MIB };
const TUNNELS = 100;

const CONNECTIONS = { 'the server': 'http.in.downstream_cx_total', 'the client': 'cluster.peer.upstream_cx_total' };
const STREAMS = { 'the server': 'http.in.downstream_rq_active', 'the client': 'cluster.peer.upstream_rq_active' };
/** RST_STREAM frames that Envoy got from us. */
const RESETS = { 'the server': 'http2.rx_reset', 'the client': 'cluster.peer.http2.rx_reset' };
const ROLES = ['the server', 'the client'] as const;

async function endpoints(mesh: EnvoyMesh): Promise<[client: Endpoint, server: Endpoint]> {
  const [client, server] = await mesh.open();
  return [new Endpoint(client), new Endpoint(server)];
}

async function reaches({ envoy }: EnvoyMesh, name: string, value: number): Promise<void> {
  await eventually(`${name} of ${value}`, async () => ((await envoy.stat(name)) === value ? true : undefined));
}

async function sawReset(t: Test, end: Endpoint): Promise<void> {
  await end.until('closed');
  t.same(end.seen, ['reset', 'closed'], 'a reset and no end before it');
}

/** A transfer both ways of which half has arrived, and which waits to be finished. */
class Halfway {
  static readonly #SIZE = 2 * MIB;
  readonly #ends: readonly [Socket, Socket];
  readonly #payload = randomBytes(Halfway.#SIZE);
  readonly #hashes = [createHash('sha256'), createHash('sha256')] as const;
  readonly #received: [number, number] = [0, 0];
  readonly #closed: Promise<unknown>;

  static async start(mesh: EnvoyMesh): Promise<Halfway> {
    const transfer = new Halfway(await mesh.open());
    const half = Halfway.#SIZE / 2;
    for (const end of transfer.#ends) end.write(transfer.#payload.subarray(0, half));
    await eventually('half of a transfer', () => transfer.#received.every((count) => count === half) || undefined);
    return transfer;
  }

  private constructor(ends: [Socket, Socket]) {
    this.#ends = ends;
    this.#closed = Promise.all(ends.map((end) => once(end, 'close')));
    // Told by finish(), if it comes to that.
    this.#closed.catch(() => undefined);
    for (const side of [0, 1] as const)
      ends[side].on('data', (chunk: Buffer) => {
        this.#hashes[side].update(chunk);
        this.#received[side] += chunk.length;
      });
  }

  /** The rest, then the client's end and the server's: an Envoy at the server's end wants it in this order. */
  async finish(t: Test): Promise<void> {
    const [client, server] = this.#ends;
    const sent = createHash('sha256').update(this.#payload).digest('hex');
    for (const end of this.#ends) end.write(this.#payload.subarray(Halfway.#SIZE / 2));
    client.end();
    await once(server, 'end');
    server.end();
    await this.#closed;
    for (const hash of this.#hashes) t.equal(hash.digest('hex'), sent, 'it arrived whole');
  }
}

const BLOCK = randomBytes(MIB);

/** Sends blocks that are all different; their digest. */
async function pour(socket: Socket, size: number): Promise<string> {
  const hash = createHash('sha256');
  for (let sent = 0; sent < size; sent += BLOCK.length) {
    const block = Buffer.from(BLOCK);
    block.writeUInt32BE(sent / BLOCK.length);
    hash.update(block);
    if (!socket.write(block)) await once(socket, 'drain');
  }
  return hash.digest('hex');
}

async function drink(socket: Socket): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest('hex');
}

for (const backend of BACKENDS) {
  for (const role of ROLES)
    t.test(`${backend}, Envoy is ${role}`, { skip: noEnvoy }, async (t) => {
      const mesh = await envoyMesh(t, role, { backend });

      await t.test('the client ends first, and hears an answer', async (t) => {
        const [client, server] = await endpoints(mesh);
        client.socket.end('question');
        await server.until('end');
        t.equal(server.bytes, 8);
        await sleep(20);
        t.notOk(client.seen.includes('end'), 'the other direction is open');
        server.socket.end('a long answer');
        for (const end of [client, server]) {
          await end.until('closed');
          t.same(end.seen, ['end', 'closed']);
        }
        t.equal(client.bytes, 13);
      });

      await t.test('the server ends first', async (t) => {
        const [client, server] = await endpoints(mesh);
        server.socket.end('greeting');
        await client.until('end');
        t.equal(client.bytes, 8);
        client.socket.end('thanks');
        for (const end of [client, server]) {
          await end.until('closed');
          t.same(end.seen, ['end', 'closed']);
        }
        // An Envoy that serves takes nothing more from the client then.
        t.equal(server.bytes, role === 'the server' ? 0 : 6);
      });

      await t.test('a reset by the server', async (t) => {
        const before = await mesh.envoy.stat(RESETS[role]);
        const [client, server] = await endpoints(mesh);
        client.socket.write('x');
        await server.untilBytes(1);
        server.socket.resetAndDestroy();
        await sawReset(t, client);
        await reaches(mesh, RESETS[role], role === 'the client' ? before + 1 : before);
      });

      await t.test('a reset by the client', async (t) => {
        const before = await mesh.envoy.stat(RESETS[role]);
        const [client, server] = await endpoints(mesh);
        client.socket.write('x');
        await server.untilBytes(1);
        client.socket.resetAndDestroy();
        if (role === 'the client') return sawReset(t, server);
        await reaches(mesh, RESETS[role], before + 1);
        // It was told of a reset, and tells its application of an end.
        await server.until('end');
        t.same(server.seen, ['end']);
        server.socket.destroy();
      });

      await t.test(`${TUNNELS} tunnels on one connection`, async (t) => {
        await reaches(mesh, STREAMS[role], 0);
        const clients = Array.from({ length: TUNNELS }, () => new Endpoint(mesh.dial()));
        for (const _ of clients) {
          const server = await mesh.accept();
          server.pipe(server);
        }
        t.equal(await mesh.envoy.stat(STREAMS[role]), TUNNELS, 'all are open at once');
        t.equal(await mesh.envoy.stat(CONNECTIONS[role]), 1, 'one connection carries them, and carried all before');
        for (const [i, client] of clients.entries()) client.socket.write(Buffer.alloc(i + 1));
        for (const [i, client] of clients.entries()) await client.untilBytes(i + 1);
        for (const client of clients) client.socket.end();
        for (const [i, client] of clients.entries()) {
          await client.until('closed');
          t.same([client.seen, client.bytes], [['end', 'closed'], i + 1], 'its own bytes and no others');
        }
        await reaches(mesh, STREAMS[role], 0);
      });

      await t.test(`${BULK[backend] / MIB} MiB each way at once`, async (t) => {
        const [client, server] = await mesh.open();
        const [up, down] = [drink(server), drink(client)];
        const sent = Promise.all([pour(client, BULK[backend]), pour(server, BULK[backend])]);
        const [upSent, downSent] = await sent;
        client.end();
        t.equal(await up, upSent, 'to the server');
        server.end();
        t.equal(await down, downSent, 'to the client');
      });

      await t.test('every connection that was opened was closed', async (t) => {
        const of = (what: string) => mesh.node.metric(`istio_tcp_connections_${what}_total`);
        await eventually('the end of all', async () => ((await of('opened')) === (await of('closed')) ? true : undefined));
        t.ok((await of('opened')) > TUNNELS);
      });
    });

  t.test(`${backend}: Envoy says GOAWAY as the server`, { skip: noEnvoy }, async (t) => {
    const mesh = await envoyMesh(t, 'the server', { backend });
    const old = [await Halfway.start(mesh), await Halfway.start(mesh)];
    await mesh.envoy.post('/drain_listeners?graceful&skip_exit');
    // Envoy says it with its next answer, and takes no new stream some seconds after.
    old.push(await Halfway.start(mesh));
    t.equal(await mesh.envoy.stat(CONNECTIONS['the server']), 1);
    const late = await Halfway.start(mesh);
    t.equal(await mesh.envoy.stat(CONNECTIONS['the server']), 2, 'who comes later is carried by a connection of their own');
    for (const transfer of [...old, late]) await transfer.finish(t);
    await eventually('the end of the first connection', async () =>
      (await mesh.envoy.stat('http.in.downstream_cx_active')) < 2 ? true : undefined,
    );
  });

  t.test(`${backend}: our server says GOAWAY as it stops`, { skip: noEnvoy }, async (t) => {
    const mesh = await envoyMesh(t, 'the client', { backend, env: { CONNECTION_TERMINATION_DEADLINE: '60s' } });
    const transfers = [await Halfway.start(mesh), await Halfway.start(mesh)];
    const stopped = mesh.node.app.stop();
    await reaches(mesh, 'cluster.peer.upstream_cx_close_notify', 1);
    const refused = new Endpoint(mesh.dial());
    await refused.until('end');
    t.equal(refused.bytes, 0, 'nobody new is served');
    refused.socket.destroy();
    for (const transfer of transfers) await transfer.finish(t);
    const before = performance.now();
    await stopped;
    t.ok(performance.now() - before < 5000, 'it waits for them, and for nothing else');
    await reaches(mesh, 'cluster.peer.upstream_cx_active', 0);
  });

  t.test(`${backend}: our client stops`, { skip: noEnvoy }, async (t) => {
    const mesh = await envoyMesh(t, 'the server', { backend, env: { CONNECTION_TERMINATION_DEADLINE: '60s' } });
    const transfers = [await Halfway.start(mesh), await Halfway.start(mesh)];
    const stopped = mesh.node.app.stop();
    await sleep(100);
    t.equal(await mesh.envoy.stat(STREAMS['the server']), 2, 'what is open goes on');
    for (const transfer of transfers) await transfer.finish(t);
    const before = performance.now();
    await stopped;
    t.ok(performance.now() - before < 5000, 'it waits for them, and for nothing else');
    await reaches(mesh, 'http.in.downstream_cx_active', 0);
    t.equal(await mesh.envoy.stat('http.in.downstream_cx_protocol_error'), 0);
  });
}
