// Whole frames in any order, in both roles: what a byte-level mutator seldom gets past the framing with. A session may end, with a named
// error; it may not throw, hang or leave streams open.
import fc from 'fast-check';
import { test } from 'tap';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import { HpackEncoder } from '#shared/http2/hpack/encoder.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { playTraffic } from '../harness/http2-feed.ts';
import { random } from '../harness/mutate.ts';
import { frame, OPENING, REQUEST, SETTINGS, uint32 } from '../harness/raw-http2.ts';

const id = fc.constantFrom(0, 1, 1, 1, 2, 3, 3, 5, 5, 7, 9, 2 ** 31 - 1);
const someFlags = fc.oneof(fc.constantFrom(0, 1, 4, 5, 8, 0x20, 0x2d), fc.integer({ min: 0, max: 255 }));
const octets = fc.uint8Array({ maxLength: 60 });
const LISTS: readonly HeaderList[] = [
  REQUEST,
  [...REQUEST, ['content-length', '5']],
  [
    [':method', 'CONNECT'],
    [':authority', 'a:1'],
  ],
  [[':status', '100']],
  [[':status', '200']],
  [
    [':status', '204'],
    ['x', 'y'],
  ],
  [['grpc-status', '0']],
  [['X', 'y']],
];

type Make = (encoder: HpackEncoder) => Buffer;
const plain = (type: fc.Arbitrary<number>, payload: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Make> =>
  fc.tuple(type, someFlags, id, payload).map(
    ([of, flags, stream, bytes]) =>
      () =>
        frame(of, flags, stream, bytes),
  );
const number = fc.oneof(fc.constantFrom(0, 1, 8, 65_535, 2 ** 31 - 1, 2 ** 32 - 1), fc.nat()).map((value) => uint32(value));

const head: fc.Arbitrary<Make> = fc
  .tuple(fc.constantFrom(Flag.endHeaders, Flag.endHeaders, Flag.endHeaders | Flag.endStream, 0), id, fc.constantFrom(...LISTS))
  .map(
    ([flags, stream, list]) =>
      (encoder) =>
        frame(FrameType.headers, flags, stream, encoder.encode(list)),
  );
const settings = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.oneof(fc.constantFrom(0, 1, 100, 16_384, 65_535), fc.nat())), {
    maxLength: 4,
  })
  .map((list) => Buffer.concat(list.map(([key, value]) => Buffer.concat([Buffer.from([0, key]), uint32(value)]))));

const anyFrame: fc.Arbitrary<Make> = fc.oneof(
  { weight: 6, arbitrary: head },
  { weight: 5, arbitrary: plain(fc.constant(FrameType.data), octets) },
  { weight: 2, arbitrary: plain(fc.constantFrom(FrameType.windowUpdate, FrameType.rstStream), number) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(0, 0, 1), settings).map(
      ([flags, bytes]) =>
        () =>
          frame(FrameType.settings, flags, 0, bytes),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(0, 1), fc.constant(Buffer.alloc(8))).map(
      ([flags, bytes]) =>
        () =>
          frame(FrameType.ping, flags, 0, bytes),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(0, 1, 3, 2 ** 31 - 1).map((last) => () => frame(FrameType.goaway, 0, 0, uint32(last, 0))),
  },
  { weight: 1, arbitrary: plain(fc.integer({ min: 0, max: 12 }), octets) },
);

for (const role of ['server', 'client'] as const)
  test(`${role}: frames in any order`, async (t) => {
    const ends = { ended: 0, reset: 0, error: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(anyFrame, { maxLength: 30 }), fc.nat(), async (frames, seed) => {
        const encoder = new HpackEncoder();
        const opening = role === 'server' ? OPENING : SETTINGS;
        const { kind } = await playTraffic(role, [opening, ...frames.map((make) => make(encoder))], random(seed), 'run');
        ends[kind]++;
      }),
      { numRuns: 2000, interruptAfterTimeLimit: 8000 },
    );
    t.comment(JSON.stringify(ends));
    t.ok(ends.error > 0 && ends.ended > 0, 'some sessions end with a fault, and some in order');
  });
