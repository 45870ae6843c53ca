// Mutated HTTP/2 traffic in both roles: a session may end, with a named error; it may not throw, hang or leave streams open.
import { test } from 'tap';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import { HpackEncoder } from '#shared/http2/hpack/encoder.ts';
import { playTraffic } from '../harness/http2-feed.ts';
import { mutate, pieces, random } from '../harness/mutate.ts';
import { frame, OPENING, REQUEST, SETTINGS, uint32 } from '../harness/raw-http2.ts';

function serverTraffic(): Buffer {
  const encoder = new HpackEncoder();
  const headers = (id: number, flags: number) =>
    frame(FrameType.headers, flags, id, encoder.encode([...REQUEST, ['user-agent', 'fuzz'], ['x', 'y'.repeat(50)]]));
  return Buffer.concat([
    OPENING,
    frame(FrameType.settings, 0, 0, Buffer.from([0, 4, 0, 0, 255, 255, 0, 1, 0, 0, 0, 100])),
    headers(1, Flag.endHeaders),
    frame(FrameType.data, 0, 1, Buffer.alloc(300, 'a')),
    frame(FrameType.data, Flag.padded | Flag.endStream, 1, Buffer.from([3, 1, 2, 0, 0, 0])),
    headers(3, Flag.endHeaders | Flag.endStream),
    headers(5, 0),
    frame(FrameType.continuation, Flag.endHeaders, 5, Buffer.from([0x40, 1, 0x78, 1, 0x79])),
    frame(FrameType.windowUpdate, 0, 5, uint32(1000)),
    frame(FrameType.windowUpdate, 0, 0, uint32(1000)),
    frame(FrameType.ping, 0, 0, Buffer.alloc(8)),
    frame(FrameType.rstStream, 0, 5, uint32(8)),
    frame(FrameType.priority, 0, 7, Buffer.alloc(5)),
    headers(7, Flag.endHeaders),
    frame(FrameType.goaway, 0, 0, uint32(0, 0)),
  ]);
}

function clientTraffic(): Buffer {
  const encoder = new HpackEncoder();
  const headers = (id: number, flags: number, status: string) =>
    frame(
      FrameType.headers,
      flags,
      id,
      encoder.encode([
        [':status', status],
        ['server', 'fuzz'],
        ['x-long', 'z'.repeat(90)],
      ]),
    );
  return Buffer.concat([
    SETTINGS,
    headers(1, Flag.endHeaders, '100'),
    headers(1, Flag.endHeaders, '200'),
    frame(FrameType.data, 0, 1, Buffer.alloc(200, 'a')),
    frame(FrameType.headers, Flag.endHeaders | Flag.endStream, 1, encoder.encode([['grpc-status', '0']])),
    headers(3, Flag.endHeaders | Flag.endStream, '404'),
    frame(FrameType.rstStream, 0, 5, uint32(7)),
    frame(FrameType.goaway, 0, 0, uint32(5, 0)),
  ]);
}

for (const role of ['server', 'client'] as const) {
  test(`${role} session`, async (t) => {
    const traffic = role === 'server' ? serverTraffic() : clientTraffic();
    const start = Date.now();
    let runs = 0;
    for (; runs < 4000 && Date.now() - start < 6000; runs++) {
      const below = random(runs);
      await playTraffic(role, pieces(mutate(traffic, below), below), below, `seed ${runs}`);
    }
    t.ok(runs > 300, `${runs} runs`);
  });
}
