// A reactor beside the rest of its thread: Node's timers, immediates, promises and messages run while sockets are watched, busy or not.
import { once } from 'node:events';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel, Worker } from 'node:worker_threads';
import type { Test } from 'tap';
import type { Conn, StreamHandler } from '#shared/reactor/api.ts';
import { LOOPBACK, tcpPair, useReactor, type ReactorFactory } from './pairs.ts';

export function threadSuite(t: Test, create: ReactorFactory): void {
  for (const busy of [false, true])
    t.test(`timers, immediates and messages beside ${busy ? 'busy' : 'idle'} connections`, async (t) => {
      const reactor = useReactor(t, create);
      const { client, server } = await tcpPair(reactor);
      const pings = [client, server].map(echo);
      if (busy) client.write(Buffer.from('ball'));
      const started = performance.now();
      await sleep(30);
      const late = performance.now() - started - 30;
      t.ok(late > -2 && late < 100, `a timer of 30 ms was ${late} ms late`);
      const { port1, port2 } = new MessageChannel();
      const message = once(port1, 'message');
      port2.postMessage('hello');
      t.strictSame(await message, ['hello']);
      port1.close();
      for (let i = 0; i < 3; i++) await immediate();
      const other = new Worker('require("node:worker_threads").parentPort.postMessage("from a thread")', { eval: true });
      // A thread's last message and its end may come in one call.
      const exit = once(other, 'exit');
      t.strictSame(await once(other, 'message'), ['from a thread']);
      t.strictSame(await exit, [0]);
      const before = pings[0]?.chunks ?? 0;
      await sleep(5);
      t.equal((pings[0]?.chunks ?? 0) > before, busy, 'the connections went on');
    });

  t.test('promises that a handler settles are seen before the next event', async (t) => {
    const reactor = useReactor(t, create);
    const { client, server } = await tcpPair(reactor);
    const order: string[] = [];
    const seen = Promise.withResolvers<void>();
    server.start({
      onData(chunk) {
        order.push(`data ${chunk.length}`);
        if (order.length > 2) seen.resolve();
        queueMicrotask(() => order.push('microtask'));
        process.nextTick(() => order.push('tick'));
      },
      onEnd: () => undefined,
      onDrain: () => undefined,
      onClose: () => undefined,
    });
    echo(client);
    client.write(Buffer.alloc(1));
    await sleep(20);
    client.write(Buffer.alloc(2));
    await seen.promise;
    t.strictSame(order.slice(0, 4), ['data 1', 'tick', 'microtask', 'data 2']);
  });

  t.test('two reactors of a thread talk to each other', async (t) => {
    const [one, other] = [useReactor(t, create), useReactor(t, create)];
    const accepted = Promise.withResolvers<Conn>();
    const listener = await other.listen({ address: LOOPBACK }, accepted.resolve);
    const client = await one.connect({ to: listener.address });
    const ends = [client, await accepted.promise].map(echo);
    client.write(Buffer.from('ball'));
    await sleep(20);
    t.ok(ends.every(({ chunks }) => chunks > 10));
  });
}

function echo(conn: Conn): Echo {
  const handler = new Echo(conn);
  conn.start(handler);
  return handler;
}

/** Sends back what comes, so that a pair of them is never idle. */
class Echo implements StreamHandler {
  chunks = 0;
  readonly #conn: Conn;

  constructor(conn: Conn) {
    this.#conn = conn;
  }

  onData(chunk: Uint8Array): void {
    this.chunks++;
    this.#conn.write(chunk);
  }

  onEnd(): void {
    this.#conn.end();
  }

  onDrain(): void {
    // Never much under way.
  }

  onClose(): void {
    // The reactor's end.
  }
}
