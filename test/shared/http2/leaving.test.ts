// What a connection owes to its streams when either side ends it: nothing that was sent, or came, in whole is lost.
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'tap';
import type { Test } from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import { resetWhenDone } from '#shared/http2/leaving.ts';
import type { Http2Options } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import { frame, RawPeer, SETTINGS, uint32 } from '../../harness/raw-http2.ts';

const TURN = 30;
const nothing = (): void => undefined;
const CONNECT = [
  [':method', 'CONNECT'],
  [':authority', 'a:80'],
] as const;

interface Client {
  readonly peer: RawPeer;
  readonly stream: Http2Stream;
  /** What its reader was told. */
  readonly seen: string[];
}

/** A client with one stream, which the peer has answered; it reads. */
async function client(options: Partial<Http2Options> = {}, highWater?: number): Promise<Client> {
  const peer = new RawPeer({ role: 'client', ...options }, highWater);
  peer.send(SETTINGS);
  const stream = peer.session.request(CONNECT);
  const seen: string[] = [];
  stream.opener = {
    onResponse: () =>
      stream.start({
        onData: (chunk) => void seen.push(String(chunk.length)),
        onEnd: () => void seen.push('end'),
        onDrain: () => void seen.push('drain'),
        onClose: ({ kind }) => void seen.push(kind),
      }),
  };
  await peer.until(() => peer.find(FrameType.headers, 1) !== undefined);
  peer.send(peer.headers(1, [[':status', '200']]));
  await sleep(TURN);
  return { peer, stream, seen };
}

const isEnd = ({ type, flags }: { type: number; flags: number }): boolean =>
  type === FrameType.data && (flags & Flag.endStream) !== 0;

test('what came whole before the peer closed the connection, in order or not, is still read', async (t) => {
  for (const leave of ['end', 'fault'] as const) {
    const { peer, stream, seen } = await client();
    stream.pause();
    stream.end();
    await peer.until(() => peer.frames.some(isEnd));
    peer.send(frame(FrameType.data, Flag.endStream, 1, Buffer.alloc(1000)));
    await sleep(TURN);
    if (leave === 'end') peer.leave();
    else peer.send(frame(FrameType.data, 0, 0, Buffer.alloc(1)));
    await peer.until(() => peer.closed !== undefined);
    t.same(seen, [], 'nothing was read yet');
    stream.resume();
    await sleep(TURN);
    t.same(seen, ['1000', 'end', 'ended'], leave);
  }
});

test('what came in part is not taken for all of it', async (t) => {
  const { peer, stream, seen } = await client();
  stream.pause();
  stream.end();
  peer.send(frame(FrameType.data, 0, 1, Buffer.alloc(1000)));
  await sleep(TURN);
  peer.leave();
  await peer.until(() => peer.closed !== undefined);
  stream.resume();
  await sleep(TURN);
  t.same(seen, ['error']);
});

test('a session that is closed for a reason ends streams of which nothing more will come, too', async (t) => {
  const { peer, stream, seen } = await client();
  stream.pause();
  stream.end();
  peer.send(frame(FrameType.data, Flag.endStream, 1, Buffer.alloc(1000)));
  await sleep(TURN);
  peer.session.close(new Error('its certificate was revoked') as never);
  await sleep(TURN);
  t.same(seen, ['error']);
});

test('the end of the last stream reaches a peer that reads late', async (t) => {
  const { peer, stream, seen } = await client({}, 10_000);
  peer.send(frame(FrameType.data, Flag.endStream, 1));
  await sleep(TURN);
  peer.stall();
  stream.write(Buffer.alloc(50_000));
  await sleep(TURN);
  stream.end();
  peer.session.drain();
  await sleep(TURN);
  peer.readOn();
  await peer.until(() => peer.ended);
  t.equal(seen.at(-1), 'ended', 'here it ended in order');
  t.ok(peer.frames.some(isEnd), `and the peer is told so: ${peer.summary()}`);
});

test('a connection that ended in order is not reset while its last bytes are on their way', async (t) => {
  const clock = new FakeClock();
  const { peer, stream, seen } = await client({ clock });
  peer.send(frame(FrameType.data, Flag.endStream, 1));
  await sleep(TURN);
  peer.stall();
  stream.write(Buffer.alloc(60_000));
  stream.end();
  peer.session.drain();
  await sleep(TURN);
  t.equal(seen.at(-1), 'ended');
  clock.advance(10_000);
  await sleep(TURN);
  peer.readOn();
  await peer.until(() => peer.frames.some(isEnd));
  t.equal(octets(peer), 60_000);
});

function octets({ frames }: RawPeer): number {
  return frames.filter(({ type }) => type === FrameType.data).reduce((sum, { payload }) => sum + payload.length, 0);
}

test('a stream that the peer needs no more of tells who waits for room, though its reader stands still', async (t) => {
  const { peer, stream, seen } = await client();
  stream.write(Buffer.alloc(100_000));
  stream.pause();
  peer.send(frame(FrameType.data, Flag.endStream, 1, Buffer.alloc(10)));
  await sleep(TURN);
  t.same(seen, []);
  peer.send(frame(FrameType.rstStream, 0, 1, uint32(0)));
  await peer.until(() => seen.length > 0);
  t.same(seen, ['drain']);
  stream.resume();
  await sleep(TURN);
  t.same(seen, ['drain', '10', 'end', 'ended']);
});

/** When the transport is reset, ms; its peer has yet to take `left(ms)` bytes. */
function resetAfter(t: Test, inOrder: boolean, left: (ms: number) => number | undefined): number {
  const clock = new FakeClock();
  let at: number | undefined;
  const transport: ByteStream = {
    start: nothing,
    write: () => true,
    end: nothing,
    reset: () => (at = clock.monotonic()),
    pause: nothing,
    resume: nothing,
    buffered: 0,
    get unacknowledged() {
      return left(clock.monotonic());
    },
  };
  resetWhenDone(clock, transport, inOrder);
  for (let i = 0; i < 400 && at === undefined; i += 1) clock.advance(2000);
  if (at === undefined) t.fail('it is never reset');
  return at ?? 0;
}

test('how long a peer has to close', async (t) => {
  t.equal(
    resetAfter(t, false, () => 1000),
    2000,
    'behind a fault',
  );
  t.equal(
    resetAfter(t, true, () => 0),
    4000,
    'when it has everything',
  );
  t.equal(
    resetAfter(t, true, (ms) => 100_000 - Math.min(ms, 100_000)),
    102_000,
    'when it takes it slowly: until it has it',
  );
  t.equal(
    resetAfter(t, true, () => 1000),
    304_000,
    'when it takes nothing: five minutes',
  );
  t.equal(
    resetAfter(t, true, () => undefined),
    62_000,
    'when nobody knows',
  );
  const clock = new FakeClock();
  resetWhenDone(clock, { reset: () => t.fail('it was closed') } as unknown as ByteStream, true).cancel();
  clock.advance(1_000_000);
});
