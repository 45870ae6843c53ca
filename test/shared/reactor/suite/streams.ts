// How bytes, ends and resets travel, for every form of stream.
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { PAIRS, withPair, type ReactorFactory } from './pairs.ts';
import { Recorder } from './recorder.ts';

const MiB = 1 << 20;

export function streamSuite(t: Test, create: ReactorFactory): void {
  for (const [form, open] of Object.entries(PAIRS)) {
    t.test(`${form}: 64 MiB both ways arrive unchanged`, (t) =>
      withPair(t, create, open, async ({ client, server }) => {
        const chunk = randomBytes(MiB / 4);
        const times = 256;
        const hash = createHash('sha256');
        for (let i = 0; i < times; i++) hash.update(chunk);
        const digest = hash.digest('hex');
        client.start();
        server.start();
        const finish = async (side: Recorder): Promise<void> => {
          await side.send(chunk, times);
          side.call((stream) => stream.end());
        };
        await Promise.all([finish(client), finish(server)]);
        t.strictSame(await Promise.all([client.closed, server.closed]), [{ kind: 'ended' }, { kind: 'ended' }]);
        t.equal(client.digest, digest);
        t.equal(server.digest, digest);
        t.equal(client.bytes, chunk.length * times);
      }),
    );

    t.test(`${form}: the caller may reuse its buffer after write()`, (t) =>
      withPair(t, create, open, async ({ client, server }) => {
        const chunk = Buffer.alloc(MiB);
        const hash = createHash('sha256');
        client.start();
        for (let i = 0; i < 8; i++) {
          chunk.fill(i + 1);
          hash.update(chunk);
          client.call((stream) => stream.write(chunk));
        }
        chunk.fill(0xff);
        client.call((stream) => stream.end());
        server.start();
        await server.ended;
        t.equal(server.digest, hash.digest('hex'));
      }),
    );

    t.test(`${form}: chunks go where buffer() says`, (t) =>
      withPair(t, create, open, async ({ client, server, guard }) => {
        const into = new Recorder(server.stream, guard, new Uint8Array(1000));
        const data = randomBytes(100_000);
        into.start();
        client.start();
        client.call((stream) => stream.write(data));
        client.call((stream) => stream.end());
        await into.ended;
        t.equal(into.digest, createHash('sha256').update(data).digest('hex'));
      }),
    );

    for (const [first, second] of [
      ['client', 'server'],
      ['server', 'client'],
    ] as const)
      t.test(`${form}: the ${first} ends first, the ${second} goes on and ends later`, (t) =>
        withPair(t, create, open, async (pair) => {
          const [a, b] = [pair[first], pair[second]];
          a.start();
          b.start();
          a.call((stream) => stream.write(Buffer.from('request')));
          a.call((stream) => stream.end());
          await b.ended;
          t.equal(b.bytes, 7);
          await b.send(Buffer.alloc(64 * 1024, 1), 32);
          b.call((stream) => stream.end());
          t.strictSame(await Promise.all([a.closed, b.closed]), [{ kind: 'ended' }, { kind: 'ended' }]);
          t.equal(a.bytes, 2 * MiB);
        }),
      );

    t.test(`${form}: both end at once`, (t) =>
      withPair(t, create, open, async ({ client, server }) => {
        client.start();
        server.start();
        client.call((stream) => stream.end());
        server.call((stream) => stream.end());
        t.strictSame(await Promise.all([client.closed, server.closed]), [{ kind: 'ended' }, { kind: 'ended' }]);
      }),
    );

    for (const early of ['', 'early'])
      t.test(`${form}: an end before start() is not lost, after "${early}"`, (t) =>
        withPair(t, create, open, async ({ client, server }) => {
          client.start();
          if (early) client.call((stream) => stream.write(Buffer.from(early)));
          client.call((stream) => stream.end());
          await sleep(50);
          server.start();
          await server.ended;
          t.equal(server.bytes, early.length);
          server.call((stream) => stream.end());
          t.strictSame(await Promise.all([client.closed, server.closed]), [{ kind: 'ended' }, { kind: 'ended' }]);
        }),
      );

    for (const [first, second] of [
      ['client', 'server'],
      ['server', 'client'],
    ] as const)
      t.test(`${form}: a reset by the ${first} is a reset to the ${second}`, (t) =>
        withPair(t, create, open, async (pair) => {
          const [a, b] = [pair[first].start(), pair[second].start()];
          a.call((stream) => stream.write(Buffer.from('x')));
          b.call((stream) => stream.write(Buffer.from('x')));
          await sleep(20);
          a.call((stream) => stream.reset());
          a.call((stream) => stream.reset());
          t.match(await a.closed, { kind: 'reset', remote: false });
          t.match(await b.closed, { kind: 'reset', remote: true });
          await sleep(20);
          t.equal(a.events.filter((event) => event === 'close').length, 1);
          t.equal(b.events.filter((event) => event === 'close').length, 1);
          t.notOk(b.events.includes('end'), 'a reset is no end');
        }),
      );

    t.test(`${form}: a reset after the own end still reaches the peer`, (t) =>
      withPair(t, create, open, async ({ client, server }) => {
        client.start();
        server.start();
        client.call((stream) => stream.end());
        await server.ended;
        client.call((stream) => stream.reset());
        t.match(await client.closed, { kind: 'reset', remote: false });
        const chunk = Buffer.alloc(1024);
        const writing = setInterval(() => server.call((stream) => stream.write(chunk)), 5);
        t.match(await server.closed, { kind: 'reset', remote: true });
        clearInterval(writing);
      }),
    );

    t.test(`${form}: a reset behind the own end is a reset to who waits`, (t) =>
      withPair(t, create, open, async ({ client, server }) => {
        client.start();
        server.start();
        client.call((stream) => stream.end());
        await server.ended;
        // In node:tls a reset that crosses the own end on its way is an end.
        await sleep(20);
        server.call((stream) => stream.reset());
        t.match(await client.closed, { kind: 'reset', remote: true });
        t.notOk(client.events.includes('end'), 'and never an end: what it would have sent is missing');
      }),
    );

    for (const space of [undefined, new Uint8Array(100)])
      t.test(`${form}: behind reset() comes nothing but the close, ${space ? 'with' : 'without'} buffer()`, (t) =>
        withPair(t, create, open, async ({ client, server, guard }) => {
          const reader = new Recorder(server.stream, guard, space);
          let calls = 0;
          reader.onChunk = () => {
            calls++;
            reader.call((stream) => stream.reset());
          };
          client.start();
          client.call((stream) => stream.write(Buffer.alloc(400_000, 1)));
          client.call((stream) => stream.end());
          await sleep(50);
          reader.start();
          t.strictSame(await reader.closed, { kind: 'reset', remote: false });
          t.equal(calls, 1);
          t.strictSame(reader.events, ['data', 'close']);
        }),
      );

    t.test(`${form}: a reset by the peer before start() is told after it`, (t) =>
      withPair(t, create, open, async ({ client, server }) => {
        client.start();
        // A handshake's last flight may still be under way.
        await sleep(20);
        client.call((stream) => stream.reset());
        await client.closed;
        await sleep(50);
        server.start();
        t.match(await server.closed, { kind: 'reset', remote: true });
      }),
    );

    t.test(`${form}: a stalled reader holds the writer back, and lets it go on`, (t) =>
      withPair(t, create, open, async ({ client, server }) => {
        client.start();
        server.start();
        server.call((stream) => stream.pause());
        const chunk = Buffer.alloc(64 * 1024, 7);
        let sent = 0;
        const sending = (async () => {
          for (; sent < 1024; sent++) await client.send(chunk, 1);
        })();
        await sleep(300);
        const stalledAt = sent;
        t.ok(stalledAt < 1024, `the writer stalled after ${stalledAt} chunks`);
        t.ok(client.stream.buffered > 0 && client.stream.buffered <= 2 * MiB, `${client.stream.buffered} bytes are held`);
        await sleep(100);
        t.equal(sent, stalledAt, 'it stays stalled');
        server.call((stream) => stream.resume());
        await sending;
        client.call((stream) => stream.end());
        await server.ended;
        t.equal(server.bytes, 1024 * chunk.length);
        t.equal(client.stream.buffered, 0);
      }),
    );

    t.test(`${form}: pause() and resume() between any two chunks lose nothing`, (t) =>
      withPair(t, create, open, async ({ client, server }) => {
        const data = randomBytes(4 * MiB);
        server.onChunk = () => {
          server.call((stream) => stream.pause());
          const bytes = server.bytes;
          setImmediate(() => {
            if (server.bytes !== bytes) t.fail('data came while paused');
            server.call((stream) => stream.resume());
          });
        };
        server.start();
        client.start();
        await client.send(data, 1);
        client.call((stream) => stream.end());
        await server.ended;
        t.equal(server.digest, createHash('sha256').update(data).digest('hex'));
      }),
    );
  }
}
