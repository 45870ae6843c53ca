import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { ByteQueue } from '#shared/http2/byte-queue.ts';
import { ReceiveWindow } from '#shared/http2/flow.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { answer, echoStream, ourClient, ourServer, writeAll } from '../../harness/http2-peers.ts';

const POST: HeaderList = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'a'],
];

test('a window grows while its reader keeps up, and is never overrun', (t) => {
  const window = new ReceiveWindow(100, 400);
  t.equal(window.receive(100), true);
  t.equal(window.take(40, true), 0, 'less than half: no update yet');
  t.equal(window.take(60, true), 200, 'doubled to 200');
  t.equal(window.receive(200), true);
  t.equal(window.take(200, false), 200, 'not while the reader lags');
  t.equal(window.receive(200), true);
  t.equal(window.take(200, true), 400);
  t.equal(window.receive(400), true);
  t.equal(window.take(400, true), 400, 'not over the limit');
  t.equal(window.receive(401), false);
  t.end();
});

test('a window grows past what sockets hold by themselves only for a reader that has proved to take more', (t) => {
  const window = new ReceiveWindow(262_144, 4_194_304);
  let [left, taken, largest] = [262_144, 0, 0];
  const takeUpTo = (octets: number): void => {
    for (; taken < octets; taken += 131_072) {
      t.equal(window.receive(131_072), true);
      left += window.take(131_072, true) - 131_072;
      largest = Math.max(largest, left);
    }
  };
  takeUpTo(12_000_000);
  t.ok(largest > 700_000 && largest <= taken / 16, `${largest} after what a reader that never reads may seem to take`);
  takeUpTo(30_000_000);
  t.ok(largest > 1_500_000 && largest <= 30_000_000 / 16, `${largest} after 30 MB`);
  takeUpTo(80_000_000);
  t.ok(largest > 4_000_000 && largest <= 4_194_304, `${largest} in the end`);
  t.end();
});

test('a byte queue packs small pieces and keeps order', (t) => {
  const queue = new ByteQueue();
  const all = randomBytes(200_000);
  for (let at = 0, size = 1; at < all.length; at += size, size = ((size * 7) % 5000) + 1) queue.push(all.subarray(at, at + size));
  t.equal(queue.length, all.length);
  const out: Buffer[] = [];
  for (let piece = queue.peek(3000); piece; piece = queue.peek(3000)) {
    out.push(Buffer.from(piece));
    queue.skip(piece.length);
  }
  t.ok(Buffer.concat(out).equals(all));
  t.equal(queue.length, 0);
  t.end();
});

test('stalled streams hold a bounded amount and never stall the others', async (t) => {
  const stalled: Http2Stream[] = [];
  await using server = await ourServer((stream) => {
    if (stream.headers.some(([name]) => name === 'x-stall')) {
      stalled.push(stream);
      stream.respond(200);
      stream.start({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
      stream.pause();
    } else echoStream(stream);
  });
  const client = await ourClient(server.port);
  const flood = Buffer.alloc(4_000_000, 'x');
  const stuck = Array.from({ length: 40 }, () => client.request([...POST, ['x-stall', '1']]));
  const answers = stuck.map((one) => answer(one));
  for (const stream of stuck) stream.write(flood);
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.equal(stalled.length, 40);
  for (const { held } of stalled) t.ok(held > 0 && held <= 1_048_576, `${held} held`);

  const payload = randomBytes(2_000_000);
  const started = performance.now();
  const stream = client.request(POST);
  const whole = await new Promise<Buffer>((resolve) => {
    const chunks: Buffer[] = [];
    let more = (): void => {};
    stream.start({
      onData: (chunk) => void chunks.push(Buffer.from(chunk)),
      onEnd: () => resolve(Buffer.concat(chunks)),
      onDrain: () => more(),
      onClose: () => {},
    });
    more = writeAll(stream, payload);
  });
  t.ok(whole.equals(payload), 'a probe beside them gets through');
  t.comment(`${Math.round(performance.now() - started)} ms`);

  for (const one of stalled) one.resume();
  for (const one of stuck) one.end();
  for (const one of stalled) one.end();
  const ends = await Promise.all(answers);
  t.ok(
    ends.every(({ reason }) => reason.kind === 'ended'),
    'they go on when their reader does',
  );
  client.drain();
});

test('a stalled sender waits for the window and then goes on', async (t) => {
  await using server = await ourServer((stream) => {
    stream.respond(200);
    const go = { more: (): void => {} };
    stream.start({ onData: () => {}, onEnd: () => {}, onDrain: () => go.more(), onClose: () => {} });
    go.more = writeAll(stream, Buffer.alloc(3_000_000, 'y'), [['x-t', '1']]);
  });
  const client = await ourClient(server.port);
  const stream = client.request(POST, true);
  let got = 0;
  const done = new Promise<void>((resolve) => {
    stream.start({
      onData: (chunk) => {
        got += chunk.length;
        stream.pause();
        setTimeout(() => stream.resume(), 1);
      },
      onEnd: () => resolve(),
      onDrain: () => {},
      onClose: () => {},
    });
  });
  await done;
  t.equal(got, 3_000_000);
});

test('an idle session closes and a stream that nobody starts is announced', async (t) => {
  await using server = await ourServer((stream) => stream.reset(11));
  const client = await ourClient(server.port);
  await t.rejects(answer(client.request(POST)), { message: /"remote":true,"code":11/u });
  client.drain();
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.same(server.closes, [{ kind: 'ended' }]);
});
