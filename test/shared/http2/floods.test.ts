// Known attacks on HTTP/2 servers: each ends its own connection with ENHANCE_YOUR_CALM, and costs little.
import { test } from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import { Budget } from '#shared/http2/limits.ts';
import { FLOODS } from '../../harness/http2-faults.ts';
import { frame, OPENING, RawPeer, REQUEST, uint32 } from '../../harness/raw-http2.ts';

for (const [what, send] of FLOODS) {
  test(what, async (t) => {
    const peer = new RawPeer({ clock: new FakeClock() });
    peer.send(OPENING, send(peer, REQUEST));
    await peer.until(() => peer.closed !== undefined);
    t.match(peer.closed, { kind: 'error', error: { code: 'protocol_error', message: /ENHANCE_YOUR_CALM/u } });
    t.equal(peer.session.streams, 0, 'nothing is left open');
  });
}

test('ten WINDOW_UPDATE for a DATA frame are no flood, one more is', async (t) => {
  const peer = new RawPeer({ clock: new FakeClock(), limits: { idleFrames: { burst: 1, perSecond: 0 } } });
  peer.send(OPENING, peer.headers(1, REQUEST));
  await peer.until(() => peer.streams.length === 1);
  const [stream] = peer.streams;
  stream?.respond(200);
  const frames = 20;
  for (let i = 0; i < frames; i++) {
    stream?.write(Buffer.alloc(100));
    await peer.until(() => peer.frames.filter(({ type }) => type === FrameType.data).length === i + 1);
    peer.send(...Array.from({ length: 10 }, () => frame(FrameType.windowUpdate, 0, 1, uint32(10))));
  }
  const ping = frame(FrameType.ping, 0, 0, Buffer.alloc(8));
  const update = frame(FrameType.windowUpdate, 0, 0, uint32(10));
  peer.send(update, ping);
  await peer.until(() => peer.find(FrameType.ping) !== undefined);
  t.equal(peer.closed, undefined, 'one is in the budget');
  peer.send(update);
  await peer.until(() => peer.closed !== undefined);
  t.match(peer.closed, { error: { message: /too many frames without effect/u } });
});

test('HPACK bomb: a small block that would decode to a large list is refused, and costs the list limit at most', async (t) => {
  const peer = new RawPeer();
  // One 4,000-octet field enters the table, then 60,000 references to it: 240 MB decoded.
  const field = Buffer.concat([Buffer.from([0x40, 1, 0x78, 0x7f, 0xa1, 0x1e]), Buffer.alloc(4000, 'y')]);
  peer.send(OPENING, frame(FrameType.headers, Flag.endHeaders, 1, Buffer.concat([field, Buffer.alloc(60_000, 0xbe)])));
  await peer.until(() => peer.find(FrameType.headers, 1) !== undefined);
  t.equal(peer.streams.length, 0);
  t.equal(peer.reset(1), 'NO_ERROR', 'behind a 431');
  peer.send(peer.headers(3, REQUEST));
  await peer.until(() => peer.streams.length === 1);
  t.equal(peer.closed, undefined, 'the connection and its table live on');
});

test('a budget refills with time', (t) => {
  const clock = new FakeClock();
  const budget = new Budget({ burst: 3, perSecond: 2 }, clock, 'things');
  for (let i = 0; i < 3; i++) budget.spend();
  t.throws(() => budget.spend(), { message: 'too many things' });
  clock.advance(1000);
  budget.spend();
  budget.spend();
  t.throws(() => budget.spend());
  t.end();
});
