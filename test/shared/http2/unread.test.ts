// Peers that ask and do not read: what they make a session hold is bounded.
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import { Keepalive } from '#shared/http2/keepalive.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { frame, OPENING, RawPeer, REQUEST, uint32 } from '../../harness/raw-http2.ts';

const ENDED = Flag.endHeaders | Flag.endStream;
const BACKLOG = 100_000;
const ANSWER = 1000;

// Requests that were answered at once piled up their answers, as many as a peer cared to send, and the session went on reading.
test('a peer that reads no answers is not asked for more requests, and is served when it reads again', async (t) => {
  let answered = 0;
  const peer = new RawPeer(
    {
      limits: { controlBacklog: BACKLOG },
      onStream: (stream) => {
        answered++;
        stream.respond(404, [['x', `${answered}`.padEnd(ANSWER, '~')]], true);
      },
    },
    16_384,
  );
  peer.send(OPENING);
  peer.stall();
  const requests = 2000;
  for (let i = 0; i < requests; i++) {
    peer.send(peer.headers(i * 2 + 1, REQUEST, ENDED));
    await turn();
  }
  t.ok(answered * ANSWER < BACKLOG + 50_000, `${answered} of ${requests} answered while nothing is read`);
  t.equal(peer.closed, undefined);
  peer.readOn();
  await peer.until(() => peer.frames.filter(({ type }) => type === FrameType.headers).length === requests);
  t.equal(answered, requests);
  t.equal(peer.closed, undefined);
});

test('a peer that is not read from, as it does not read, is found to be gone', async (t) => {
  const clock = new FakeClock();
  const respond = (stream: Http2Stream): void => stream.respond(404, [['x', '~'.repeat(ANSWER)]], true);
  const peer = new RawPeer({ clock, limits: { controlBacklog: 100 }, onStream: respond }, 16_384);
  const keepalive = new Keepalive(peer.session, clock);
  peer.send(OPENING);
  peer.stall();
  for (let i = 0; i < 100; i++) {
    peer.send(peer.headers(i * 2 + 1, REQUEST, ENDED));
    await turn();
  }
  for (let i = 0; i < 10 && !peer.closed; i++) {
    peer.send(frame(FrameType.ping, 0, 0, Buffer.alloc(8)));
    clock.advance(10_000);
    await turn();
  }
  keepalive.stop();
  t.match(peer.closed, { kind: 'error', error: { message: /the peer is gone/u } });
});

/** What makes a session answer at once, each below all rates. */
const QUESTIONS: Record<string, (peer: RawPeer, i: number) => Uint8Array> = {
  PING: () => frame(FrameType.ping, 0, 0, Buffer.alloc(8)),
  SETTINGS: () => frame(FrameType.settings, 0, 0),
  'a malformed request': (peer, i) => peer.headers(i * 2 + 3, []),
  'DATA of a stream that is over': () => frame(FrameType.data, 0, 1, Buffer.alloc(1)),
};
const NO_RATE = { burst: Infinity, perSecond: 0 };

for (const [what, make] of Object.entries(QUESTIONS))
  test(`a peer that reads nothing may not ask for ever, however slowly: ${what}`, async (t) => {
    const limits = { controlBacklog: 5000, questions: NO_RATE, resets: NO_RATE, idleFrames: NO_RATE };
    const peer = new RawPeer({ limits }, 16_384);
    peer.send(OPENING, peer.headers(1, REQUEST), frame(FrameType.rstStream, 0, 1, uint32(8)));
    peer.stall();
    let asked = 0;
    for (; asked < 10_000 && !peer.closed; asked += 10) {
      peer.send(...Array.from({ length: 10 }, (_, i) => make(peer, asked + i)));
      await turn();
    }
    t.match(peer.closed, { kind: 'error', error: { message: /does not read the answers .+ENHANCE_YOUR_CALM/u } });
    t.ok(asked > 500, `${asked} were answered: what the transport takes, and the limit`);
  });

test('a peer that reads the answers may ask as often as it likes', async (t) => {
  const peer = new RawPeer({ limits: { controlBacklog: 5000, questions: NO_RATE } }, 16_384);
  peer.send(OPENING);
  for (let asked = 0; asked < 10_000; asked += 10) {
    peer.send(...Array.from({ length: 10 }, () => frame(FrameType.ping, 0, 0, Buffer.alloc(8))));
    await turn();
  }
  await peer.until(() => peer.frames.filter(({ type }) => type === FrameType.ping).length === 10_000);
  t.equal(peer.closed, undefined);
});
