// What a connection carries: every byte, the end of each direction on its own, and a reset, over each of the ways through a ztunnel.
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

const SIZE = 64 * 1024 * 1024;
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

interface Path {
  readonly client: TestPod;
  readonly server: TestPod;
}

const PATHS: Record<string, (lab: MeshLab) => Promise<Path>> = {
  'a tunnel': async (lab) => ({ client: await lab.captured(web), server: await lab.captured(cart) }),
  'one node': async (lab) => ({ client: await lab.captured(web), server: await lab.captured(api) }),
  'plaintext in': async (lab) => ({ client: lab.net.pod('stranger', '10.1.0.9'), server: await lab.captured(cart) }),
  'plaintext out': async (lab) => ({ client: await lab.captured(web), server: lab.net.pod('stranger', '10.1.0.9') }),
};

async function setUp(t: Test, make: (lab: MeshLab) => Promise<Path>) {
  const lab = new MeshLab(t);
  await lab.node('node-1');
  await lab.node('node-2');
  await lab.apply(web, api, cart);
  return make(lab);
}

/** A connection and its other end. */
async function pair({ client, server }: Path): Promise<[Socket, Socket]> {
  const accepted = Promise.withResolvers<Socket>();
  const to: HostPort = { ip: server.ip, port: await server.serve(accepted.resolve) };
  const socket = await client.connect(to);
  return [socket, await accepted.promise];
}

async function send(socket: Socket): Promise<string> {
  const hash = createHash('sha256');
  const block = Buffer.alloc(1024 * 1024);
  for (let sent = 0; sent < SIZE; sent += block.length) {
    randomFillSync(block);
    hash.update(block);
    if (!socket.write(Buffer.from(block))) await once(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
}

async function receive(socket: Socket): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest('hex');
}

async function text(socket: Socket): Promise<string> {
  let all = '';
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) all += chunk.toString();
  return all;
}

for (const [name, make] of Object.entries(PATHS)) {
  t.test(`${name}: 64 MiB both ways at once arrive whole`, async (t) => {
    const [client, server] = await pair(await setUp(t, make));
    const [up, upSeen, down, downSeen] = await Promise.all([send(client), receive(server), send(server), receive(client)]);
    t.equal(upSeen, up);
    t.equal(downSeen, down);
  });

  t.test(`${name}: each direction ends on its own`, async (t) => {
    const path = await setUp(t, make);
    const [client, server] = await pair(path);
    client.end('question');
    t.equal(await text(server), 'question', 'the server has heard all');
    await sleep(50);
    server.end('answer');
    t.equal(await text(client), 'answer', 'and may still speak');
    const [second, other] = await pair(path);
    other.end('greeting');
    t.equal(await text(second), 'greeting', 'the server may end first');
    second.end('thanks');
    t.equal(await text(other), 'thanks');
  });

  t.test(`${name}: a reset arrives as a reset, from either side`, async (t) => {
    const path = await setUp(t, make);
    for (const side of [0, 1] as const) {
      const ends = await pair(path);
      const [here, there] = side === 0 ? ends : [ends[1], ends[0]];
      here.write('x');
      await once(there, 'data');
      const error = new Promise<NodeJS.ErrnoException>((resolve) => there.once('error', resolve));
      here.resetAndDestroy();
      t.equal((await error).code, 'ECONNRESET');
    }
  });

  t.test(`${name}: a receiver that does not read holds the sender back`, async (t) => {
    const [client, server] = await pair(await setUp(t, make));
    server.pause();
    const block = Buffer.alloc(256 * 1024);
    // Kernels of late let one socket's queue grow to 32 MiB, and there are several on the way.
    const size = 4 * SIZE;
    const left = (): number => client.bytesWritten - client.writableLength;
    for (let idle = 0; idle < 10;) {
      const before = left();
      while (client.writableLength < block.length && client.bytesWritten < size) client.write(block);
      await sleep(30);
      idle = left() === before ? idle + 1 : 0;
    }
    t.ok(left() < size / 2, `stopped after ${Math.round(left() / 1024 / 1024)} MiB`);
    client.end();
    let received = 0;
    for await (const chunk of server as AsyncIterable<Buffer>) received += chunk.length;
    t.equal(received, client.bytesWritten, 'and nothing is lost');
  });
}
