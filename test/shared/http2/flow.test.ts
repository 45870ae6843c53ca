import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { ByteQueue } from '#shared/http2/byte-queue.ts';
import { ReceiveWindow, WindowGrowth } from '#shared/http2/flow.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { answer, echoStream, ourClient, ourServer, writeAll } from '../../harness/http2-peers.ts';

const POST: HeaderList = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'a'],
];

/** A stream's user who wants to hear of nothing. */
const IGNORE = { onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} };

test('a window grows while its reader keeps up, and is never overrun', (t) => {
  const window = new ReceiveWindow({ first: 100, limit: 400 });
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
  const window = new ReceiveWindow({ first: 262_144, limit: 4_194_304 });
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

const MIB = 1 << 20;

/** A reader that keeps up takes so many octets. Returns its window at the end. */
function taken(window: ReceiveWindow, octets: number): number {
  for (let at = 0; at < octets; at += 131_072) {
    window.receive(131_072);
    window.take(131_072, true);
  }
  return window.size;
}

const windows = (count: number, growth: WindowGrowth): ReceiveWindow[] =>
  Array.from({ length: count }, () => new ReceiveWindow({ first: MIB / 4, limit: 4 * MIB, growth }));
const sum = (all: readonly ReceiveWindow[]): number => all.reduce((octets, { size }) => octets + size, 0);

// Each window grew by itself, and none ever shrank: 200 streams whose readers stopped after proving themselves held 800 MB.
test('the windows of a connection grow by what it may have under way, shared by those that keep up', (t) => {
  const growth = new WindowGrowth(16 * MIB);
  const all = windows(200, growth);
  const few = all.slice(0, 4);
  for (const window of few) t.equal(taken(window, 100 * MIB), 4 * MIB, 'few have as much as one alone');
  const some = all.slice(0, 16);
  for (let round = 0; round < 10; round++) for (const window of some) taken(window, 8 * MIB);
  for (const { size } of some) t.ok(size >= MIB && size < 1.5 * MIB, `${size} of one of 16`);
  for (let round = 0; round < 10; round++) for (const window of all) taken(window, 8 * MIB);
  t.ok(sum(all) <= 200 * (MIB / 4) + 16 * MIB, `${sum(all)} in all`);
  for (const { size } of all) t.ok(size >= MIB / 4, 'none has less than any reader gets');
  for (const window of all.slice(1)) window.release();
  t.equal(taken(all[0]!, 100 * MIB), 4 * MIB, 'what is given back is had by who is left');
  t.end();
});

test('what readers that stopped may still be sent is missing to those that start, but for the window that any reader gets', (t) => {
  const growth = new WindowGrowth(16 * MIB);
  const [stopped, fresh] = [windows(4, growth), windows(4, growth)];
  for (const window of stopped) taken(window, 100 * MIB);
  for (const window of fresh) taken(window, 100 * MIB);
  t.equal(sum([...stopped, ...fresh]), 8 * (MIB / 4) + 16 * MIB);
  t.equal(sum(fresh), 4 * (MIB / 4) + MIB);
  for (let round = 0; round < 10; round++) for (const window of [...stopped, ...fresh]) taken(window, 8 * MIB);
  for (const { size } of [...stopped, ...fresh]) t.equal(size, MIB / 4 + 2 * MIB, 'until they read on');
  t.end();
});

test('a shrinking window is never overrun by a peer that keeps to what it was told', (t) => {
  const growth = new WindowGrowth(4 * MIB);
  const all = windows(10, growth);
  const left = all.map(() => MIB / 4);
  let [overrun, stuck] = [0, 0];
  for (let round = 0; round < 3000; round++)
    for (const [i, window] of all.entries()) {
      if (i > round / 100) break;
      const octets = Math.min(left[i]!, 65_536 * ((round % 3) + 1));
      if (!window.receive(octets)) overrun++;
      left[i]! += window.take(octets, round % 7 > 0) - octets;
      if (left[i]! <= 0) stuck++;
    }
  t.strictSame([overrun, stuck], [0, 0]);
  t.ok(sum(all) <= 10 * (MIB / 4) + 4 * MIB);
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
      stream.start(IGNORE);
      stream.pause();
    } else echoStream(stream);
  });
  const client = await ourClient(server.port);
  const flood = Buffer.alloc(4_000_000, 'x');
  const stuck = Array.from({ length: 40 }, () => client.request([...POST, ['x-stall', '1']]));
  const answers = stuck.map((one) => answer(one));
  for (const stream of stuck) stream.write(flood);
  while (stalled.length < 40 || stalled.some(({ held }) => held === 0)) await new Promise((resolve) => setTimeout(resolve, 10));
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

test('readers that prove themselves and then stop make a connection hold what it may have under way, and no more', async (t) => {
  const settings = { streamWindow: 16_384, maxStreamWindow: 262_144, connectionWindow: 1_048_576 };
  const stopped: Http2Stream[] = [];
  await using server = await ourServer(
    (stream) => {
      let got = 0;
      stream.respond(200);
      stream.start({
        ...IGNORE,
        onData: (chunk) => {
          got += chunk.length;
          if (got < 3_000_000) return;
          stopped.push(stream);
          stream.pause();
        },
      });
    },
    { settings },
  );
  const client = await ourClient(server.port);
  const streams = Array.from({ length: 40 }, () => client.request(POST));
  for (const stream of streams) {
    stream.start(IGNORE);
    stream.write(Buffer.alloc(6_000_000, 'x'));
  }
  while (stopped.length < 40) await new Promise((resolve) => setTimeout(resolve, 10));
  await new Promise((resolve) => setTimeout(resolve, 200));
  const held = stopped.reduce((octets, stream) => octets + stream.held, 0);
  t.ok(held <= 40 * settings.streamWindow + settings.connectionWindow, `${held} held`);
  client.close();
});

test('what is read of a stream after it was closed takes nothing from the windows of the others', async (t) => {
  const settings = { streamWindow: 16_384, maxStreamWindow: 262_144, connectionWindow: 1_048_576 };
  const last: Http2Stream[] = [];
  await using server = await ourServer(
    (stream) => {
      stream.respond(200);
      const keeps = stream.headers.some(([name]) => name === 'x-keep');
      let got = 0;
      stream.start({
        ...IGNORE,
        onData: (chunk) => {
          got += chunk.length;
          // In the middle of a chunk that is larger than half of its window.
          if (!keeps && chunk.length > 8192) stream.reset();
          if (!keeps || got < 1_000_000) return;
          last.push(stream);
          stream.pause();
        },
      });
    },
    { settings },
  );
  const client = await ourClient(server.port);
  const open = (headers: HeaderList): Promise<unknown> =>
    new Promise((resolve) => {
      const stream = client.request(headers);
      stream.start({ ...IGNORE, onClose: resolve });
      stream.write(Buffer.alloc(4_000_000, 'x'));
    });
  for (let i = 0; i < 200; i++) await open(POST);
  void open([...POST, ['x-keep', '1']]);
  const held = (): number => last[0]?.held ?? 0;
  for (let i = 0; i < 300 && held() <= 65_536; i++) await new Promise((resolve) => setTimeout(resolve, 10));
  t.ok(held() > 65_536, `${held()} held by the last, whose window has grown`);
  client.close();
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
