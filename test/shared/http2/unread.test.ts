// Peers that ask and do not read: what they make a session hold is bounded.
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'tap';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import { RawPeer, OPENING, REQUEST } from '../../harness/raw-http2.ts';

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
