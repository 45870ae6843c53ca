// Packets that the native backend spares: the end of a handshake goes out with the first bytes, and an end with the last ones.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { relay } from '#shared/hbone/relay.ts';
import { acceptTcp, listenTcp } from '#shared/os/socket-factory.ts';
import { libc } from '#shared/os/syscalls.ts';
import { tcpInfo } from '#shared/os/tcp-info.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { Conn, StreamHandler } from '#shared/reactor/api.ts';
import { LOOPBACK, tcpPair, useReactor } from './suite/pairs.ts';

const create = () => createReactor({ backend: 'native' });
const IDLE: StreamHandler = {
  onData: () => undefined,
  onEnd: () => undefined,
  onDrain: () => undefined,
  onClose: () => undefined,
};
const HELLO = Buffer.from('hello');

/** A listener without a reactor, which sees what the kernel does. */
class Peer {
  readonly #listener = listenTcp({ address: LOOPBACK });
  readonly address = this.#listener.address;
  fd = -1;

  constructor(t: Test) {
    t.teardown(() => {
      libc().close(this.#listener.fd);
      if (this.fd >= 0) libc().close(this.fd);
    });
  }

  get accepted(): boolean {
    if (this.fd < 0) this.fd = acceptTcp(this.#listener.fd)?.fd ?? -1;
    return this.fd >= 0;
  }

  async until(what: () => boolean): Promise<void> {
    for (let tries = 0; tries < 400 && !what(); tries++) await sleep(5);
  }

  /** Everything up to the end, and in how many segments it came, those of the handshake included. */
  async receive(): Promise<{ text: string; segments: number }> {
    await this.until(() => this.accepted);
    let text = '';
    const space = Buffer.alloc(100);
    let ended = false;
    await this.until(() => {
      const count = libc().read(this.fd, space, space.length);
      if (count > 0) text += space.toString('latin1', 0, count);
      ended ||= count === 0;
      return ended;
    });
    return { text, segments: tcpInfo(this.fd).segmentsReceived };
  }
}

t.test('a peer meets a connection with its first bytes, where they were announced', async (t) => {
  const reactor = useReactor(t, create);
  const [plain, announced] = [new Peer(t), new Peer(t)];
  const conns = [
    await reactor.connect({ to: plain.address }),
    await reactor.connect({ to: announced.address, bytesFollow: true }),
  ];
  await sleep(20);
  t.equal(plain.accepted, true);
  t.equal(announced.accepted, false, 'its handshake is not over');
  for (const conn of conns) {
    conn.start(IDLE);
    conn.write(HELLO);
    conn.end();
  }
  const [first, second] = [await plain.receive(), await announced.receive()];
  t.same([first.text, second.text], ['hello', 'hello']);
  t.equal(second.segments, first.segments - 1, 'a packet less');
});

t.test('dial() has a connection on this machine at once, and rejects where connect() does', async (t) => {
  const reactor = useReactor(t, create);
  const peer = new Peer(t);
  const opened = reactor.dial({ to: peer.address });
  t.notOk(opened instanceof Promise, 'without a promise');
  const conn = await opened;
  conn.start(IDLE);
  conn.write(HELLO);
  conn.end();
  t.equal((await peer.receive()).text, 'hello');
  const nobody = reactor.dial({ to: { ip: '127.0.0.1', port: 1 } });
  await t.rejects(Promise.resolve(nobody), { code: 'connect_failed' });
});

t.test('bytes that were announced and do not come hold nobody up for long', async (t) => {
  const reactor = useReactor(t, create);
  const peer = new Peer(t);
  const conn = await reactor.connect({ to: peer.address, bytesFollow: true });
  conn.start(IDLE);
  await peer.until(() => peer.accepted);
  t.equal(peer.accepted, true);
});

t.test('an end goes out with the last bytes, where they were known to be the last', async (t) => {
  const reactor = useReactor(t, create);
  const segments: number[] = [];
  for (const last of [false, true]) {
    const peer = new Peer(t);
    const conn = await reactor.connect({ to: peer.address });
    conn.start(IDLE);
    conn.write(HELLO, last);
    conn.end();
    const received = await peer.receive();
    t.equal(received.text, 'hello');
    segments.push(received.segments);
  }
  t.equal(segments[1], (segments[0] ?? 0) - 1, 'a packet less');
});

t.test('last bytes that nothing follows are sent all the same', async (t) => {
  const reactor = useReactor(t, create);
  const peer = new Peer(t);
  const conn = await reactor.connect({ to: peer.address });
  conn.start(IDLE);
  conn.write(HELLO, true);
  await peer.until(() => peer.accepted && tcpInfo(peer.fd).bytesReceived > 0n);
  t.equal(tcpInfo(peer.fd).bytesReceived, 5n);
});

t.test('a reader is told that bytes are the last, and a relay passes that on', async (t) => {
  const reactor = useReactor(t, create);
  const peer = new Peer(t);
  const { client, server } = await tcpPair(reactor);
  const upstream = await reactor.connect({ to: peer.address });
  client.start(IDLE);
  client.write(HELLO);
  client.end();
  const lasts: unknown[] = [];
  const watched: Conn = Object.create(upstream, {
    write: {
      value: (chunk: Uint8Array, last?: boolean) => {
        lasts.push(last);
        return upstream.write(chunk, last);
      },
    },
    start: { value: (handler: StreamHandler) => upstream.start(handler) },
    end: { value: () => upstream.end() },
    resume: { value: () => upstream.resume() },
    reset: { value: () => upstream.reset() },
  }) as Conn;
  relay(server, watched);
  const { text, segments } = await peer.receive();
  t.equal(text, 'hello');
  t.same(lasts, [true]);

  const other = new Peer(t);
  const apart = await reactor.connect({ to: other.address });
  apart.start(IDLE);
  apart.write(HELLO);
  apart.end();
  t.equal((await other.receive()).segments, segments + 1, 'a packet less');
});

t.test('a reader that pauses at its last bytes is told of the end when it reads on', async (t) => {
  const { client, server } = await tcpPair(useReactor(t, create));
  client.start(IDLE);
  client.write(HELLO);
  client.end();
  await sleep(10);
  const told: string[] = [];
  server.start({
    ...IDLE,
    onData: (chunk, last) => {
      told.push(`${Buffer.from(chunk).toString()} ${String(last)}`);
      server.pause();
    },
    onEnd: () => void told.push('end'),
  });
  await sleep(30);
  t.same(told, ['hello true']);
  server.resume();
  for (let tries = 0; tries < 100 && told.length < 2; tries++) await sleep(5);
  t.same(told, ['hello true', 'end']);
});
