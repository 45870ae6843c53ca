// How a server of tunnels finds out that a client is gone, in frames: a client that is read here octet by octet (facts: ztunnel 5).
import { setTimeout } from 'node:timers/promises';
import { test } from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import { FRAME_HEADER_SIZE, FrameType } from '#shared/http2/frames.ts';
import type { CloseReason, TlsConn } from '#shared/reactor/api.ts';
import { frame, OPENING, uint32 } from '../../harness/raw-http2.ts';
import { streamPair } from '../../harness/stream-pair.ts';

const WINDOW_UPDATE = frame(FrameType.windowUpdate, 0, 0, uint32(1));
const soon = (): Promise<void> => setTimeout(5);

/** A server that has a client's opening, and the types of the frames that came of it. */
async function served() {
  const clock = new FakeClock();
  const [ours, wire] = streamPair();
  const types: number[] = [];
  let rest = Buffer.alloc(0);
  const ended = Promise.withResolvers<void>();
  wire.start({
    onData(chunk) {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= FRAME_HEADER_SIZE) {
        types.push(rest[3] ?? -1);
        rest = rest.subarray(FRAME_HEADER_SIZE + rest.readUIntBE(0, 3));
      }
    },
    onEnd: () => ended.resolve(),
    onDrain: () => undefined,
    onClose: () => ended.resolve(),
  });
  let closed: CloseReason | undefined;
  const onClose = (reason: CloseReason): void => void (closed = reason);
  // What is asked of the connection here is what every stream can.
  serveHbone(ours as unknown as TlsConn, { reactor: { defer: queueMicrotask }, clock, onClose }, () => undefined);
  wire.write(OPENING);
  const count = (type: number): number => types.filter((own) => own === type).length;
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await soon();
  };
  // The opening itself was a sign of life.
  await soon();
  await pass(10_000);
  return { wire, types, count, pass, ended: ended.promise, closed: () => closed };
}

test('a client that no longer answers: PING after 10 quiet seconds, GOAWAY and the end 20 s later', async (t) => {
  const { types, count, pass, ended, closed } = await served();
  await pass(9999);
  t.equal(count(FrameType.ping), 0);
  await pass(1);
  t.equal(count(FrameType.ping), 1);
  await pass(19_999);
  t.equal(closed(), undefined);
  await pass(1);
  await ended;
  t.equal(types.at(-1), FrameType.goaway);
  t.match(closed(), { kind: 'error', error: { code: 'reset', message: /no answer to a PING/u } });
});

test('while a client sends, it is not asked whether it is there', async (t) => {
  const { wire, count, pass, closed } = await served();
  for (let passed = 0; passed < 100; passed += 9) {
    await pass(9000);
    wire.write(WINDOW_UPDATE);
    await soon();
  }
  t.equal(count(FrameType.ping), 0);
  t.equal(closed(), undefined);
});
