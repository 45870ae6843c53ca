// The native backend against the same rules as the portable one.
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { Deadlines } from '#shared/lifecycle/deadlines.ts';
import type { Conn, Detachable, Reactor } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { threadLoop } from '#shared/reactor/native/loop.ts';
import { cipherSuite } from './suite/ciphers.ts';
import { faultSuite } from './suite/faults.ts';
import { fairSuite } from './suite/fair.ts';
import { idleSuite } from './suite/idle.ts';
import { netnsSuite } from './suite/netns.ts';
import { tcpPair, tlsOptions, useReactor } from './suite/pairs.ts';
import { createGuard, Recorder } from './suite/recorder.ts';
import { randomSuite } from './suite/random.ts';
import { socketSuite } from './suite/sockets.ts';
import { streamSuite } from './suite/streams.ts';
import { threadSuite } from './suite/threads.ts';
import { tlsSuite } from './suite/tls.ts';

const create = () => createReactor({ backend: 'native' });

t.test('streams', async (t) => streamSuite(t, create));
t.test('any order', async (t) => randomSuite(t, create));
t.test('faults', async (t) => faultSuite(t, (onFault) => createReactor({ backend: 'native', onFault })));
t.test('fairness', async (t) => fairSuite(t, create));
t.test('idleness', async (t) => idleSuite(t, create));
t.test('sockets', async (t) => socketSuite(t, create));
t.test('network namespaces', async (t) => netnsSuite(t, create));
t.test('handshakes', async (t) => tlsSuite(t, create));
t.test('ciphers and groups', async (t) => cipherSuite(t, create));
t.test('threads', async (t) => threadSuite(t, create));

// The immediate that runs the loop was itself what kept Node's loop from having nothing to do: each wait ended at once, for ever.
t.test('an idle loop sleeps', async (t) => {
  const reactor = useReactor(t, create);
  await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, () => undefined);
  await sleep(50);
  const before = threadLoop().turns;
  await sleep(300);
  const turns = threadLoop().turns - before;
  // Timers of the test's own process wake it now and then; a loop that spins turns thousands of times.
  t.ok(turns < 200, `${turns} turns in 300 ms without an event`);
});

t.test('a worker that waits for its sockets is ended like any other', async (t) => {
  const worker = new Worker(new URL('../../fixtures/listening-worker.ts', import.meta.url));
  t.strictSame(await once(worker, 'message'), ['listening']);
  t.equal(await worker.terminate(), 1);
});

// A proxy that told the end a turn later had its clients end first: each kept a port in TIME_WAIT, and after 28,000 there was none left.
t.test('bytes and the end behind them are told in one turn', async (t) => {
  const reactor = useReactor(t, create);
  const { client, server } = await tcpPair(reactor);
  const idle = { onData: () => undefined, onEnd: () => undefined, onDrain: () => undefined, onClose: () => undefined };
  client.start(idle);
  client.write(Buffer.from('all there is'));
  client.end();
  await sleep(50);
  const told: string[] = [];
  await new Promise<void>((resolve) => {
    server.start({
      ...idle,
      onData(chunk) {
        told.push(chunk.toString());
        reactor.defer(() => {
          told.push('end of the turn');
          resolve();
        });
      },
      onEnd: () => void told.push('end'),
    });
  });
  t.strictSame(told, ['all there is', 'end', 'end of the turn']);
});

// node:net reads ahead of a paused reader and drops that when the reset comes, so only this backend can be asked for it.
t.test('what arrived before a reset is read before it is told, also by a reader that paused', async (t) => {
  const { client, server } = await tcpPair(useReactor(t, create));
  const guard = createGuard();
  const reader = new Recorder(client, guard);
  server.start(new Recorder(server, guard));
  server.write(Buffer.alloc(100_000, 1));
  await sleep(20);
  server.reset();
  await sleep(20);
  reader.onChunk = () => {
    reader.call((stream) => stream.pause());
    setTimeout(() => reader.call((stream) => stream.resume()), 5);
  };
  reader.start();
  t.strictSame(await reader.closed, { kind: 'reset', remote: true });
  t.equal(reader.bytes, 100_000);
  t.strictSame(guard.faults, []);
});

// The kernel tells of a reset once. To a send: then who reads finds nothing but an end, which is none.
for (const ends of [false, true])
  t.test(
    `what arrived before a reset is read by a writer that meets the reset first, ${ends ? 'the end too' : 'and no end'}`,
    async (t) => {
      const { client, server } = await tcpPair(useReactor(t, create));
      const guard = createGuard();
      const writer = new Recorder(client, guard);
      server.start(new Recorder(server, guard));
      server.write(Buffer.alloc(1000, 1));
      if (ends) server.end();
      server.reset();
      // No turn of the loop comes between the two writes: the first is told of the reset, the second that nobody reads.
      writer.call((stream) => stream.write(Buffer.from('x')));
      writer.start();
      t.strictSame(await writer.closed, { kind: 'reset', remote: true });
      t.equal(writer.bytes, 1000);
      t.equal(writer.events.includes('end'), ends);
      t.strictSame(guard.faults, []);
    },
  );

t.test('a connection of which a send was told that it is broken is let go of by nobody', async (t) => {
  const { client, server } = await tcpPair(useReactor(t, create));
  server.start(new Recorder(server, createGuard()));
  const detachable = client as Conn & Detachable;
  t.notOk(detachable.over);
  server.reset();
  client.write(Buffer.from('x'));
  t.ok(detachable.over);
  client.reset();
});

// Nothing watches a paused connection whose peer is gone: its descriptor and buffers stayed for as long as the reader stood still.
t.test('a reader that stays paused after a reset is told of it in the end, one that goes on reads what there was', async (t) => {
  hurry(t, 200);
  const reactor = useReactor(t, create);
  const guard = createGuard();
  const readers = await Promise.all(
    ['stalls', 'goes on'].map(async () => {
      const { client, server } = await tcpPair(reactor);
      const reader = new Recorder(client, guard).start();
      reader.call((stream) => stream.pause());
      server.start(new Recorder(server, guard));
      server.write(Buffer.alloc(100_000, 1));
      // What waits here is what the reset meets first.
      reader.call((stream) => stream.write(Buffer.alloc(1000)));
      await sleep(20);
      server.reset();
      return reader;
    }),
  );
  await sleep(100);
  const [stalled, late] = readers;
  t.notOk(stalled?.events.includes('close'), 'not at once');
  const writes = setInterval(() => stalled?.call((stream) => stream.write(Buffer.alloc(10))), 50);
  t.teardown(() => clearInterval(writes));
  late?.call((stream) => stream.resume());
  t.strictSame(await stalled?.closed, { kind: 'reset', remote: true });
  t.equal(stalled?.bytes, 0);
  t.strictSame(await late?.closed, { kind: 'reset', remote: true });
  t.equal(late?.bytes, 100_000);
  t.strictSame(guard.faults, []);
});

t.test('a reader that stays paused after both ends were told in order loses nothing', async (t) => {
  hurry(t, 50);
  const { client, server } = await tcpPair(useReactor(t, create));
  const guard = createGuard();
  const reader = new Recorder(client, guard).start();
  reader.call((stream) => stream.pause());
  server.start(new Recorder(server, guard));
  server.write(Buffer.alloc(100_000, 1));
  server.end();
  reader.call((stream) => stream.end());
  await sleep(200);
  reader.call((stream) => stream.resume());
  t.strictSame(await reader.closed, { kind: 'ended' });
  t.equal(reader.bytes, 100_000);
  t.strictSame(guard.faults, []);
});

for (const [clientSide, serverSide] of [
  ['native', 'portable'],
  ['portable', 'native'],
] as const)
  t.test(`a ${clientSide} client and a ${serverSide} server speak the same TLS, also when keys change under way`, async (t) => {
    const [one, other] = [clientSide, serverSide].map((backend) => createReactor({ backend, recordsPerKey: 3 })) as [
      Reactor,
      Reactor,
    ];
    t.teardown(() => [one, other].forEach((reactor) => reactor.close()));
    const options = tlsOptions();
    const accepted = Promise.withResolvers<Conn>();
    const listener = await other.listen({ address: { ip: '127.0.0.1', port: 0 } }, accepted.resolve);
    const [client, server] = await Promise.all([
      one.connect({ to: listener.address }).then((conn) => one.tlsClient(conn, options.client)),
      accepted.promise.then((conn) => other.tlsServer(conn, options.server)),
    ]);
    const guard = createGuard();
    const ends = [client, server].map((stream) => new Recorder(stream, guard).start());
    const data = randomBytes(1 << 20);
    for (const end of ends) {
      end.call((stream) => stream.write(data));
      end.call((stream) => stream.end());
    }
    for (const end of ends) t.strictSame(await end.closed, { kind: 'ended' });
    for (const end of ends) t.equal(end.digest, createHash('sha256').update(data).digest('hex'));
    t.strictSame(guard.faults, []);
  });

t.test('connections and handshakes, good and bad, leave no descriptor behind', async (t) => {
  const reactor = useReactor(t, create);
  const options = tlsOptions();
  const descriptors = (): number => readdirSync('/proc/self/fd').length;
  const cycle = async (bad: boolean): Promise<void> => {
    const tcp = await tcpPair(reactor);
    const verifyPeer = (): void => {
      if (bad) throw new MeshError('policy_denied', 'not today');
    };
    const outcomes = await Promise.allSettled([
      reactor.tlsClient(tcp.client, options.client),
      reactor.tlsServer(tcp.server, { ...options.server, verifyPeer }),
    ]);
    for (const outcome of outcomes)
      if (outcome.status === 'fulfilled') {
        const recorder = new Recorder(outcome.value, createGuard()).start();
        recorder.call((stream) => stream.end());
        await Promise.race([recorder.closed, sleep(20)]);
        recorder.call((stream) => stream.reset());
        await recorder.closed;
      }
  };
  for (const bad of [false, true]) await cycle(bad);
  const before = descriptors();
  for (let i = 0; i < 50; i++) await cycle(i % 2 === 1);
  await sleep(20);
  t.equal(descriptors(), before);
});

t.test('without descriptors new connections are refused and counted, and the open ones are served', async (t) => {
  const server = fork(fileURLToPath(new URL('../../fixtures/few-descriptors.ts', import.meta.url)));
  t.teardown(() => server.kill());
  const [port] = (await once(server, 'message')) as [number];
  await sleep(50);
  const sockets = Array.from({ length: 100 }, () => connect(port, '127.0.0.1').on('error', () => undefined));
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  const closed = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  await sleep(300);
  const open = sockets.filter((socket) => !socket.destroyed);
  t.ok(open.length > 10 && open.length < 64, `${open.length} are open`);
  for (const socket of [open[0], open.at(-1)]) {
    socket?.write('how many?');
    t.equal(String((await once(socket ?? server, 'data'))[0]), String(100 - open.length), 'the refused ones are counted');
  }
  for (const socket of open) socket.destroy();
  await Promise.all(closed);
  const late = connect(port, '127.0.0.1');
  t.teardown(() => late.destroy());
  late.write('served again?');
  t.equal(String((await once(late, 'data'))[0]), String(100 - open.length));
});

/** Shortens the patience with paused readers of broken connections. */
function hurry(t: Test, ms: number): void {
  const loop = threadLoop();
  const { hungUp } = loop;
  // Nothing else keeps the process alive while all connections are broken.
  const alive = setInterval(() => undefined, 1000);
  Object.assign(loop, { hungUp: new Deadlines(systemClock, ms) });
  t.teardown(() => {
    clearInterval(alive);
    Object.assign(loop, { hungUp });
  });
}

t.test('what the peer has not acknowledged yet is known, down to the kernel', async (t) => {
  const reactor = useReactor(t, create);
  const { client, server } = await tcpPair(reactor);
  const quiet = { onData: () => undefined, onEnd: () => undefined, onDrain: () => undefined, onClose: () => undefined };
  client.start(quiet);
  t.equal(client.unacknowledged, 0);
  // More than both kernels hold.
  const piece = new Uint8Array(1_000_000);
  for (let i = 0; i < 64 && client.buffered === 0; i += 1) client.write(piece);
  await sleep(50);
  const { unacknowledged = 0 } = client;
  t.ok(unacknowledged > client.buffered, `${unacknowledged} bytes, ${client.buffered} of them here`);
  server.start(quiet);
  const deadline = Date.now() + 5000;
  while (client.unacknowledged !== 0 && Date.now() < deadline) await sleep(5);
  t.equal(client.unacknowledged, 0);
});
