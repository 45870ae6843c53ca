// The connection that carries tunnels goes away under them, in order or not: applications at both ends see a reset and never an end that
// nobody sent, and what runs on another connection goes on. A GOAWAY takes nothing from those that are under way.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'tap';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { relay } from '#shared/hbone/relay.ts';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { meshOn, until } from '../../harness/hbone.ts';
import { random } from '../../harness/mutate.ts';
import { type Lane, transfers } from '../../harness/transfer.ts';

const ANY = { ip: '127.0.0.1', port: 0 };
const dial = ({ ip, port }: HostPort): Socket => connect({ host: ip, port, allowHalfOpen: true });

/** A TCP proxy between the two ztunnels that a test can cut. */
async function wire(t: Test, to: () => HostPort) {
  const pairs: [client: Socket, server: Socket][] = [];
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = dial(to());
    pairs.push([client, upstream]);
    for (const [from, into] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on('error', () => into.resetAndDestroy());
      from.pipe(into);
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of pairs.flat()) socket.destroy();
  });
  return { pairs, address: { ip: '127.0.0.1', port: (server.address() as AddressInfo).port } };
}

/** Applications, a proxy in front of each, and the wire between the proxies. Tunnels of one `sourceIp` share a connection. */
async function setUp(t: Test, backend: Backend) {
  const accepting: ((socket: Socket) => void)[] = [];
  const app = createServer({ allowHalfOpen: true }, (socket) => accepting.shift()?.(socket)).listen(0, '127.0.0.1');
  await once(app, 'listening');
  const appAddress = { ip: '127.0.0.1', port: (app.address() as AddressInfo).port };
  const { reactor, pool, request, sessions } = await meshOn(backend)(t, (tunnel) => {
    reactor.connect({ to: appAddress }).then(
      (upstream) => relay(tunnel.accept([]), upstream),
      () => tunnel.refuse(503),
    );
  });
  const between = await wire(t, () => request.peer.to);
  const sockets: Socket[] = [];
  t.teardown(() => {
    app.close();
    for (const socket of sockets) socket.destroy();
  });
  const proxy = async (sourceIp: string): Promise<HostPort> => {
    const peer = { ...request.peer, to: between.address, sourceIp };
    const listener = await reactor.listen({ address: ANY }, (conn) => {
      pool.open({ ...request, peer }).then(
        ({ stream }) => relay(conn, stream),
        () => conn.reset(),
      );
    });
    return listener.address;
  };
  const accepted = (): Promise<Socket> => new Promise((resolve) => accepting.push(resolve));
  const pair = async (address: HostPort): Promise<[Endpoint, Endpoint]> => {
    const far = accepted();
    const near = dial(address);
    sockets.push(near, await far);
    return [new Endpoint(near), new Endpoint(await far)];
  };
  return { pool, sessions, between, proxy, pair, accepted };
}

type Lab = Awaited<ReturnType<typeof setUp>>;

const LOSSES: Record<string, (lab: Lab) => void> = {
  'a RST on the wire': ({ between }) => between.pairs[0]?.forEach((socket) => socket.resetAndDestroy()),
  'a FIN on the wire, which nobody authenticated': ({ between }) =>
    between.pairs[0]?.forEach((socket) => {
      socket.unpipe();
      socket.end();
      socket.resume();
    }),
  'octets on the wire that nobody encrypted': ({ between }) =>
    between.pairs[0]?.forEach((socket) => socket.write(Buffer.from([23, 3, 3, 0, 40, ...Buffer.alloc(40, 7)]))),
  'GOAWAY and the end': ({ sessions }) => sessions[0]?.close(),
  'the end without a word': ({ sessions }) => sessions[0]?.conn.end(),
  'a reset by the server': ({ sessions }) => sessions[0]?.conn.reset(),
};

for (const backend of BACKENDS) {
  for (const [loss, lose] of Object.entries(LOSSES))
    test(`${backend}: the connection is lost: ${loss}`, async (t) => {
      const lab = await setUp(t, backend);
      const [shared, own] = [await lab.proxy('10.0.0.1'), await lab.proxy('10.0.0.2')];
      const [idle, busy, halfClosed] = [await lab.pair(shared), await lab.pair(shared), await lab.pair(shared)];
      const elsewhere = await lab.pair(own);
      t.equal(lab.between.pairs.length, 2);
      busy[0].socket.write(Buffer.alloc(8 << 20));
      busy[1].socket.write(Buffer.alloc(8 << 20));
      halfClosed[1].socket.end('all I have');
      await halfClosed[0].until('end');
      await busy[1].untilBytes(1);
      lose(lab);
      for (const [name, ends] of Object.entries({ idle, busy }))
        for (const end of ends) {
          await end.until('closed');
          t.same(end.seen, ['reset', 'closed'], `${name}: a reset, and no end`);
        }
      await halfClosed[0].writeUntilReset();
      await halfClosed[1].until('reset');
      t.notOk(halfClosed[1].seen.includes('end'));
      elsewhere[0].socket.end('still here');
      await elsewhere[1].until('end');
      elsewhere[1].socket.end();
      await elsewhere[0].until('closed');
      t.same(elsewhere[0].seen, ['end', 'closed'], 'another connection goes on');
      const [again] = [await lab.pair(shared)];
      again[0].socket.write('again');
      await again[1].untilBytes(5);
      t.equal(lab.between.pairs.length, 3, 'the next tunnel has a connection of its own');
    });

  for (const [who, drain] of Object.entries({
    server: ({ sessions }: Lab) => sessions.forEach((session) => void session.drain()),
    client: ({ pool }: Lab) => pool.drain(),
  }))
    test(`${backend}: GOAWAY by the ${who} takes nothing from tunnels that are open`, async (t) => {
      const lab = await setUp(t, backend);
      const address = await lab.proxy('10.0.0.1');
      const ends: [Endpoint, Endpoint][] = [];
      for (let i = 0; i < 5; i++) ends.push(await lab.pair(address));
      for (const [near, far] of ends) for (const { socket } of [near, far]) socket.write(Buffer.alloc(1 << 20));
      await ends[0]?.[1].untilBytes(1);
      drain(lab);
      for (const [near, far] of ends) {
        near.socket.end(Buffer.alloc(1 << 20));
        await far.until('end');
        t.equal(far.bytes, 2 << 20);
        far.socket.end('bye');
        await near.until('closed');
        t.equal(near.bytes, (1 << 20) + 3);
        t.same(near.seen, ['end', 'closed']);
      }
      await until(() => lab.pool.size === 0);
      t.pass('the connection closes behind the last of them');
    });

  test(`${backend}: a GOAWAY in the middle of every transfer, and every one is whole`, async (t) => {
    const lab = await setUp(t, backend);
    const address = await lab.proxy('10.0.0.1');
    const lane: Lane = {
      connect: async () => dial(address),
      async accepted() {
        const socket = await lab.accepted();
        setTimeout(() => void lab.sessions.at(-1)?.drain(), 1);
        return socket;
      },
    };
    await transfers([lane], 60, 1, { random });
    t.ok(lab.sessions.length > 20, `${lab.sessions.length} connections`);
  });
}
