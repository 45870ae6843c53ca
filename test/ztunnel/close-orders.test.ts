// Every order in which the two ends of a connection can close, over each of the ways through a ztunnel: what the other end sees is what it
// would see without one. The first way has none, to say so.
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const MANY = 4 << 20;

interface Way {
  readonly client: TestPod;
  readonly server: TestPod;
}

const WAYS: Record<string, (lab: MeshLab) => Promise<Way>> = {
  'no mesh': async (lab) => ({ client: lab.pod(web), server: lab.pod(cart) }),
  'a tunnel': async (lab) => ({ client: await lab.captured(web), server: await lab.captured(cart) }),
  'one node': async (lab) => ({ client: await lab.captured(web), server: await lab.captured(api) }),
  'plaintext in': async (lab) => ({ client: lab.net.pod('stranger', '10.1.0.9'), server: await lab.captured(cart) }),
  'plaintext out': async (lab) => ({ client: await lab.captured(web), server: lab.net.pod('stranger', '10.1.0.9') }),
};

/** `near` acts first. Each is played with the client as `near` and with the server. */
const ORDERS: Record<string, (t: Test, near: Endpoint, far: Endpoint) => Promise<void>> = {
  async 'FIN, answered by data and FIN'(t, near, far) {
    near.socket.end('question');
    await far.until('end');
    t.equal(far.bytes, 8);
    await sleep(20);
    t.notOk(near.seen.includes('end'), 'the other direction is open');
    far.socket.end('a long answer');
    await bothEnd(t, near, far);
    t.equal(near.bytes, 13);
  },
  async 'FIN from both at once'(t, near, far) {
    near.socket.end();
    far.socket.end();
    await bothEnd(t, near, far);
  },
  async 'FIN from both behind data'(t, near, far) {
    near.socket.end(Buffer.alloc(MANY));
    far.socket.end(Buffer.alloc(MANY));
    await bothEnd(t, near, far);
    t.same([near.bytes, far.bytes], [MANY, MANY]);
  },
  async 'FIN behind data that is not read yet'(t, near, far) {
    far.socket.pause();
    near.socket.end(Buffer.alloc(MANY));
    await sleep(50);
    t.same(far.seen, []);
    far.socket.resume();
    await far.until('end');
    t.equal(far.bytes, MANY);
    far.socket.end();
    await bothEnd(t, near, far);
  },
  async RST(t, near, far) {
    near.socket.write('x');
    await far.untilBytes(1);
    near.socket.resetAndDestroy();
    await sawReset(t, far);
  },
  async 'RST before a byte'(t, near, far) {
    near.socket.resetAndDestroy();
    await sawReset(t, far);
  },
  async 'RST behind data that is not read yet'(t, near, far) {
    far.socket.pause();
    near.socket.write(Buffer.alloc(MANY));
    await sleep(50);
    near.socket.resetAndDestroy();
    await sleep(20);
    far.socket.resume();
    await sawReset(t, far);
  },
  async 'RST behind the own FIN'(t, near, far) {
    near.socket.end();
    await far.until('end');
    near.socket.resetAndDestroy();
    await far.writeUntilReset();
    t.match(far.code, /ECONNRESET|EPIPE/u);
  },
  async "RST behind the other's FIN"(t, near, far) {
    far.socket.end();
    await near.until('end');
    near.socket.resetAndDestroy();
    await sawReset(t, far);
  },
  async 'close with bytes that were not read is a RST'(t, near, far) {
    near.socket.pause();
    far.socket.write(Buffer.alloc(MANY));
    await near.untilUnread();
    near.socket.destroy();
    await sawReset(t, far);
  },
  async 'close: FIN, and a RST for who sends on'(t, near, far) {
    near.socket.destroy();
    await far.until('end');
    await far.writeUntilReset();
    t.match(far.code, /ECONNRESET|EPIPE/u);
  },
};

async function bothEnd(t: Test, near: Endpoint, far: Endpoint): Promise<void> {
  for (const [name, end] of Object.entries({ near, far })) {
    await end.until('closed');
    t.same(end.seen, ['end', 'closed'], `the ${name} one closes in order`);
  }
}

async function sawReset(t: Test, end: Endpoint): Promise<void> {
  await end.until('closed');
  t.same(end.seen, ['reset', 'closed'], 'a reset and no end before it');
  t.match(end.code, /ECONNRESET|EPIPE/u);
}

async function meshLab(t: Test, backend: Backend): Promise<MeshLab> {
  const lab = new MeshLab(t);
  for (const name of ['node-1', 'node-2']) await lab.node(name, { CULVERT_BACKEND: backend });
  await lab.apply(web, api, cart);
  return lab;
}

/** A connection and its other end. */
async function open({ client, server }: Way): Promise<[Endpoint, Endpoint]> {
  const accepted = Promise.withResolvers<Socket>();
  const socket = await client.connect({ ip: server.ip, port: await server.serve(accepted.resolve) });
  return [new Endpoint(socket), new Endpoint(await accepted.promise)];
}

/** Every connection is over on every node, and was counted as often closed as opened. */
async function nothingLeft(lab: MeshLab): Promise<void> {
  for (const node of lab.nodes.values())
    await eventually(`the end of all connections of ${node.name}`, async () => {
      const opened = await node.metric('istio_tcp_connections_opened_total');
      return opened === (await node.metric('istio_tcp_connections_closed_total')) ? true : undefined;
    });
}

for (const backend of BACKENDS)
  for (const [name, make] of Object.entries(WAYS)) {
    if (name === 'no mesh' && backend !== BACKENDS[0]) continue;
    t.test(`${backend}: ${name}`, async (t) => {
      const lab = await meshLab(t, backend);
      const way = await make(lab);
      for (const [order, play] of Object.entries(ORDERS))
        for (const side of ['client', 'server'] as const)
          await t.test(`${order}, by the ${side}`, async (t) => {
            const [client, server] = await open(way);
            await (side === 'client' ? play(t, client, server) : play(t, server, client));
            client.socket.destroy();
            server.socket.destroy();
          });
      await nothingLeft(lab);
    });
  }
