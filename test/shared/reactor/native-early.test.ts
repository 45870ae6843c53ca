// readEarly() of the native backend: what a connection has sent before anybody started it.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { MSG } from '#shared/os/layout.ts';
import { clientTcp, startConnect } from '#shared/os/socket-factory.ts';
import { libc } from '#shared/os/syscalls.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { Conn } from '#shared/reactor/api.ts';
import { threadLoop } from '#shared/reactor/native/loop.ts';
import { LOOPBACK, tcpPair, useReactor } from './suite/pairs.ts';
import { createGuard, Recorder } from './suite/recorder.ts';

const create = () => createReactor({ backend: 'native' });
const IDLE = { onData: () => undefined, onEnd: () => undefined, onDrain: () => undefined, onClose: () => undefined };

async function early(conn: Conn, limit: number): Promise<string> {
  for (let tries = 0; tries < 100; tries++) {
    const bytes = conn.readEarly?.(limit);
    if (bytes) return Buffer.from(bytes).toString();
    await sleep(5);
  }
  return '';
}

t.test('what is there, up to the limit, and the rest and the end when it is started', async (t) => {
  const guard = createGuard();
  const { client, server } = await tcpPair(useReactor(t, create));
  t.equal(server.readEarly?.(10), undefined, 'nothing yet');
  client.start(IDLE);
  client.write(Buffer.from('hello, world'));
  client.end();
  t.equal(await early(server, 5), 'hello');
  const rest = new Recorder(server, guard);
  let text = '';
  rest.onChunk = (chunk) => void (text += Buffer.from(chunk).toString());
  rest.start();
  t.equal(server.readEarly?.(10), undefined, 'its bytes are the handler’s now');
  await rest.ended;
  t.equal(text, ', world');
  server.end();
});

/** Who reads before the start meets the end or the reset first; the handler is told of it all the same. */
async function endIsTold(t: Test, readBefore: (server: Conn) => void): Promise<void> {
  for (const how of ['end', 'reset'] as const) {
    const guard = createGuard();
    const { client, server } = await tcpPair(useReactor(t, create));
    client.start(IDLE);
    server.whenReadable?.({ onReadable: () => readBefore(server) });
    client[how]();
    await sleep(20);
    readBefore(server);
    const handler = new Recorder(server, guard);
    handler.start();
    if (how === 'end') {
      await handler.ended;
      server.end();
      t.same(await handler.closed, { kind: 'ended' });
    } else t.same(await handler.closed, { kind: 'reset', remote: true });
  }
}

t.test('an end or a reset that is met there is told to the handler', async (t) => {
  await endIsTold(t, (server) => void t.equal(server.readEarly?.(10), undefined));
});

t.test('so it is when the listener does not look', async (t) => {
  await endIsTold(t, () => undefined);
});

t.test('a listener is told once when there is something, and then the thread is left alone until the start', async (t) => {
  const guard = createGuard();
  const { client, server } = await tcpPair(useReactor(t, create));
  client.start(IDLE);
  let told = 0;
  const listener = { onReadable: () => void told++ };
  server.whenReadable?.(listener);
  await sleep(20);
  t.equal(told, 0, 'nothing yet');
  client.write(Buffer.from('hello'));
  await sleep(20);
  t.equal(told, 1);
  const { turns } = threadLoop();
  await sleep(30);
  t.ok(threadLoop().turns - turns < 10, 'what nobody takes is not told in each turn');
  t.equal(await early(server, 100), 'hello');

  server.whenReadable?.(listener);
  server.whenReadable?.(undefined);
  client.write(Buffer.from(' world'));
  client.end();
  await sleep(20);
  t.equal(told, 1, 'nobody listens any more');
  const rest = new Recorder(server, guard);
  let text = '';
  rest.onChunk = (chunk) => void (text += Buffer.from(chunk).toString());
  rest.start();
  await rest.ended;
  t.equal(text, ' world');
  server.end();
});

// Urgent data is told of until it is passed, and who asks again before that must not keep the thread busy.
t.test('a listener that asks again behind urgent data is told when something comes', async (t) => {
  const reactor = useReactor(t, create);
  const accepted = Promise.withResolvers<Conn>();
  const { address: to } = await reactor.listen({ address: LOOPBACK }, accepted.resolve);
  const peer = clientTcp({ to });
  t.teardown(() => libc().close(peer));
  startConnect(peer, to);
  const server = await accepted.promise;
  let told = 0;
  const listener = {
    onReadable(): void {
      told++;
      server.whenReadable?.(listener);
    },
  };
  server.whenReadable?.(listener);
  libc().send(peer, Buffer.from('!'), 1, MSG.OOB);
  await sleep(30);
  t.equal(told, 1);
  const { turns } = threadLoop();
  await sleep(30);
  t.ok(threadLoop().turns - turns < 10);
  server.whenReadable?.(undefined);
  libc().send(peer, Buffer.from('b'), 1, 0);
  t.equal(await early(server, 10), 'b');
  server.reset();
});
