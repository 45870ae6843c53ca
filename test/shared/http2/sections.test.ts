// RFC 9113 section by section: the rules that protocol.test.ts and states.test.ts leave out.
import { test } from 'tap';
import { encodeSettings, Flag, FrameType, PREFACE, SettingId, type SettingList } from '#shared/http2/frames.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { frame, OPENING, RawPeer, REQUEST, SETTINGS, uint32 } from '../../harness/raw-http2.ts';

const ENDED = Flag.endHeaders | Flag.endStream;
const settings = (list: SettingList): Buffer => frame(FrameType.settings, 0, 0, encodeSettings(list));
const NOTHING = (): void => undefined;
const quiet = { onData: NOTHING, onEnd: NOTHING, onDrain: NOTHING, onClose: NOTHING };

/** These end the connection, with that code. */
const FAULTS: [section: string, code: string, send: (peer: RawPeer) => Uint8Array[]][] = [
  [
    '3.4: a preface with a fault in its last octet',
    'PROTOCOL_ERROR',
    () => [Buffer.concat([PREFACE.subarray(0, 23), Buffer.from('x')])],
  ],
  ['3.4: an acknowledgement instead of SETTINGS', 'PROTOCOL_ERROR', () => [PREFACE, frame(FrameType.settings, Flag.ack, 0)]],
  [
    '4.2: HEADERS over the frame size',
    'FRAME_SIZE_ERROR',
    () => [OPENING, frame(FrameType.headers, ENDED, 1, Buffer.alloc(1_048_577))],
  ],
  [
    '4.2: SETTINGS over the frame size',
    'FRAME_SIZE_ERROR',
    () => [OPENING, frame(FrameType.settings, 0, 0, Buffer.alloc(1_048_578))],
  ],
  ['4.3: HEADERS within a header block', 'PROTOCOL_ERROR', (p) => [OPENING, p.headers(1, REQUEST, 0), p.headers(3, REQUEST)]],
  [
    '4.3: PRIORITY within a header block',
    'PROTOCOL_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST, 0), frame(FrameType.priority, 0, 1, Buffer.alloc(5))],
  ],
  [
    '4.3: PING within a header block',
    'PROTOCOL_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST, 0), frame(FrameType.ping, 0, 0, Buffer.alloc(8))],
  ],
  ['5.5: an unknown frame within a header block', 'PROTOCOL_ERROR', (p) => [OPENING, p.headers(1, REQUEST, 0), frame(99, 0, 0)]],
  [
    '4.3: a fault in the trailers',
    'COMPRESSION_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST), frame(FrameType.headers, ENDED, 1, Buffer.from([0x80]))],
  ],
  [
    '4.3: a fault in a block of a refused stream',
    'COMPRESSION_ERROR',
    (p) => [OPENING, p.headers(1, [[':path', '']]), frame(FrameType.headers, ENDED, 1, Buffer.from([0xff, 0xff]))],
  ],
  ['5.1.1: a lower id than the last', 'PROTOCOL_ERROR', (p) => [OPENING, p.headers(5, REQUEST), p.headers(3, REQUEST)]],
  [
    '6.2: padding over the rest of HEADERS',
    'PROTOCOL_ERROR',
    () => [OPENING, frame(FrameType.headers, ENDED | Flag.padded, 1, Buffer.from([3, 0x82, 0]))],
  ],
  [
    '6.2: HEADERS without room for its priority',
    'FRAME_SIZE_ERROR',
    () => [OPENING, frame(FrameType.headers, ENDED | Flag.priority, 1, Buffer.alloc(4))],
  ],
  [
    '6.1: padded DATA without octets',
    'FRAME_SIZE_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST), frame(FrameType.data, Flag.padded, 1)],
  ],
  ['6.3: PRIORITY for the connection', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.priority, 0, 0, Buffer.alloc(5))]],
  ['6.4: RST_STREAM for the connection', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.rstStream, 0, 0, uint32(8))]],
  ['6.5.2: MAX_FRAME_SIZE over 2^24-1', 'PROTOCOL_ERROR', () => [OPENING, settings([[SettingId.maxFrameSize, 2 ** 24]])]],
  ['6.5.2: ENABLE_CONNECT_PROTOCOL 2', 'PROTOCOL_ERROR', () => [OPENING, settings([[SettingId.enableConnectProtocol, 2]])]],
  ['6.8: GOAWAY of 7 octets', 'FRAME_SIZE_ERROR', () => [OPENING, frame(FrameType.goaway, 0, 0, Buffer.alloc(7))]],
  ['6.9: WINDOW_UPDATE of 3 octets', 'FRAME_SIZE_ERROR', () => [OPENING, frame(FrameType.windowUpdate, 0, 0, Buffer.alloc(3))]],
  [
    '6.9.1: windows that add up over 2^31-1',
    'FLOW_CONTROL_ERROR',
    () => [OPENING, ...Array.from({ length: 3 }, () => frame(FrameType.windowUpdate, 0, 0, uint32(2 ** 30)))],
  ],
  [
    '6.9.2: a setting that takes the window of a stream over 2^31-1',
    'FLOW_CONTROL_ERROR',
    (p) => [
      OPENING,
      p.headers(1, REQUEST),
      frame(FrameType.windowUpdate, 0, 1, uint32(2 ** 30)),
      settings([[SettingId.initialWindowSize, 2 ** 31 - 1]]),
    ],
  ],
  [
    '6.10: CONTINUATION for the connection',
    'PROTOCOL_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST, 0), frame(FrameType.continuation, 4, 0)],
  ],
  [
    '6.10: CONTINUATION behind END_HEADERS',
    'PROTOCOL_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST), frame(FrameType.continuation, 4, 1)],
  ],
  [
    '6.10: CONTINUATION behind DATA',
    'PROTOCOL_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST), frame(FrameType.data, 0, 1), frame(FrameType.continuation, 4, 1)],
  ],
];

for (const [what, code, send] of FAULTS)
  test(what, async (t) => {
    const peer = new RawPeer();
    peer.send(...send(peer));
    await peer.until(() => peer.closed !== undefined && peer.ended);
    t.equal(peer.goaway(), code);
    t.match(peer.closed, { kind: 'error', error: { code: 'protocol_error', message: new RegExp(code, 'u') } });
  });

test('3.4: a peer that leaves within the preface', async (t) => {
  const peer = new RawPeer();
  peer.send(PREFACE.subarray(0, 10));
  peer.leave();
  await peer.until(() => peer.closed !== undefined);
  t.same(peer.closed, { kind: 'ended' });
});

test('4.1: reserved bits and flags without a meaning are ignored', async (t) => {
  const peer = new RawPeer();
  const request = peer.headers(1, REQUEST, ENDED | 0x42);
  request.writeUInt32BE(0x8000_0001, 5);
  peer.send(OPENING, request, frame(FrameType.ping, 0xfe, 0, Buffer.from('reserved')), frame(99, 0xff, 0, Buffer.alloc(50)));
  await peer.until(() => peer.streams.length === 1 && peer.find(FrameType.ping) !== undefined);
  t.equal(peer.streams[0]?.id, 1);
  t.equal(peer.closed, undefined);
});

test('5.1.2: a stream over the limit is refused, and another takes its place later', async (t) => {
  const peer = new RawPeer({ settings: { maxStreams: 2 } });
  peer.send(OPENING, ...[1, 3, 5].map((id) => peer.headers(id, REQUEST, ENDED)));
  await peer.until(() => peer.reset(5) !== undefined);
  t.equal(peer.reset(5), 'REFUSED_STREAM');
  peer.send(frame(FrameType.rstStream, 0, 5, uint32(8)));
  peer.streams[0]?.respond(200, [], true);
  await peer.until(() => peer.session.streams === 1);
  peer.send(peer.headers(7, REQUEST, ENDED));
  await peer.until(() => peer.streams.length === 3);
  t.equal(peer.closed, undefined);
});

test('5.1.2: a stream that both sides have ended does not count, but no more of them than that wait for their readers', async (t) => {
  const peer = new RawPeer({ settings: { maxStreams: 2 } });
  peer.send(OPENING);
  for (const id of [1, 3, 5, 7, 9]) {
    peer.send(peer.headers(id, REQUEST), frame(FrameType.data, Flag.endStream, id, Buffer.alloc(10)));
    await peer.until(() => peer.streams.at(-1)?.id === id || peer.reset(id) !== undefined);
    const stream = peer.streams.find((one) => one.id === id);
    stream?.pause();
    stream?.start(quiet);
    stream?.respond(200, [], true);
  }
  t.equal(peer.streams.length, 4);
  t.equal(peer.reset(9), 'REFUSED_STREAM');
});

test('5.3: priorities mean nothing, also of a stream that depends on itself', async (t) => {
  const peer = new RawPeer();
  const block = peer.headers(1, REQUEST).subarray(9);
  peer.send(OPENING, frame(FrameType.priority, 0, 7, Buffer.concat([uint32(7), Buffer.from([1])])));
  peer.send(frame(FrameType.headers, ENDED | Flag.priority, 1, Buffer.concat([uint32(1), Buffer.from([1]), block])));
  await peer.until(() => peer.streams.length === 1);
  t.equal(peer.closed, undefined);
});

test('6.5: the last of equal settings counts, unknown ones do not, and each frame is acknowledged', async (t) => {
  const peer = new RawPeer();
  const window = SettingId.initialWindowSize;
  peer.send(
    OPENING,
    frame(
      FrameType.settings,
      0,
      0,
      encodeSettings([
        [window, 5],
        [0xabcd, 7],
        [window, 1],
      ]),
    ),
    peer.headers(1, REQUEST, ENDED),
  );
  await peer.until(() => peer.streams.length === 1);
  peer.streams[0]?.respond(200);
  peer.streams[0]?.write(Buffer.from('xyz'));
  await peer.until(() => peer.find(FrameType.data, 1) !== undefined);
  t.equal(peer.find(FrameType.data, 1)?.payload.length, 1);
  t.equal(peer.frames.filter(({ type, flags }) => type === FrameType.settings && flags === Flag.ack).length, 2);
});

test('6.9.2: a window may be taken back, and what waits goes on when it has grown enough', async (t) => {
  const peer = new RawPeer();
  const window = (octets: number): Buffer => settings([[SettingId.initialWindowSize, octets]]);
  const sent = (): number =>
    peer.frames.reduce((sum, { type, payload }) => sum + (type === FrameType.data ? payload.length : 0), 0);
  peer.send(OPENING, window(10), peer.headers(1, REQUEST, ENDED));
  await peer.until(() => peer.streams.length === 1);
  peer.streams[0]?.start(quiet);
  peer.streams[0]?.respond(200);
  peer.streams[0]?.write(Buffer.alloc(30));
  await peer.until(() => sent() === 10);
  peer.send(window(0), frame(FrameType.windowUpdate, 0, 1, uint32(5)), frame(FrameType.ping, 0, 0, Buffer.alloc(8)));
  await peer.until(() => peer.find(FrameType.ping) !== undefined);
  t.equal(sent(), 10, 'five below nothing');
  peer.send(frame(FrameType.windowUpdate, 0, 1, uint32(7)));
  await peer.until(() => sent() === 12);
  peer.send(window(100));
  await peer.until(() => sent() === 30);
  t.equal(peer.closed, undefined);
});

test('6.7: a PING that is an answer is not answered', async (t) => {
  const peer = new RawPeer();
  peer.send(
    OPENING,
    frame(FrameType.ping, Flag.ack, 0, Buffer.from('answered')),
    frame(FrameType.ping, 0, 0, Buffer.from('question')),
  );
  await peer.until(() => peer.find(FrameType.ping) !== undefined);
  t.same(
    peer.frames.filter(({ type }) => type === FrameType.ping).map(({ flags, payload }) => [flags, payload.toString()]),
    [[Flag.ack, 'question']],
  );
});

/** Responses that break the rules end their stream; a client's connection lives on. */
const ANSWERS: [what: string, code: string, send: (peer: RawPeer) => Uint8Array[]][] = [
  ['8.1: DATA before a head', 'PROTOCOL_ERROR', () => [frame(FrameType.data, 0, 1, Buffer.alloc(1))]],
  ['8.1: an interim head that ends the stream', 'PROTOCOL_ERROR', (p) => [p.headers(1, [[':status', '100']], ENDED)]],
  ['8.1: 101', 'PROTOCOL_ERROR', (p) => [p.headers(1, [[':status', '101']])]],
  ['8.3.2: no status', 'PROTOCOL_ERROR', (p) => [p.headers(1, [['x', 'y']])]],
  ['8.3.2: no number', 'PROTOCOL_ERROR', (p) => [p.headers(1, [[':status', 'ok']])]],
  [
    '8.3.2: two',
    'PROTOCOL_ERROR',
    (p) => [
      p.headers(1, [
        [':status', '200'],
        [':status', '200'],
      ]),
    ],
  ],
  [
    '8.3.2: that of a request',
    'PROTOCOL_ERROR',
    (p) => [
      p.headers(1, [
        [':status', '200'],
        [':path', '/'],
      ]),
    ],
  ],
  ['8.1: a second head', 'PROTOCOL_ERROR', (p) => [p.headers(1, [[':status', '200']]), p.headers(1, [[':status', '200']])]],
  [
    '8.1: a status in trailers',
    'PROTOCOL_ERROR',
    (p) => [p.headers(1, [[':status', '200']]), p.headers(1, [[':status', '200']], ENDED)],
  ],
  [
    '8.1.1: a body under its length',
    'PROTOCOL_ERROR',
    (p) => [
      p.headers(1, [
        [':status', '200'],
        ['content-length', '5'],
      ]),
      frame(FrameType.data, Flag.endStream, 1, Buffer.alloc(4)),
    ],
  ],
  [
    '8.1.1: a body over its length, in two frames',
    'PROTOCOL_ERROR',
    (p) => [
      p.headers(1, [
        [':status', '200'],
        ['content-length', '5'],
      ]),
      frame(FrameType.data, 0, 1, Buffer.alloc(4)),
      frame(FrameType.data, 0, 1, Buffer.alloc(4)),
    ],
  ],
  [
    '8.1.1: two lengths, though of one value',
    'PROTOCOL_ERROR',
    (p) => [
      p.headers(1, [
        [':status', '200'],
        ['content-length', '5'],
        ['content-length', '5'],
      ]),
    ],
  ],
  ...['content-length', 'host', 'te', 'trailer'].map((name): (typeof ANSWERS)[number] => [
    `8.1: ${name} in trailers`,
    'PROTOCOL_ERROR',
    (p) => [p.headers(1, [[':status', '200']]), p.headers(1, [[name, name === 'te' ? 'trailers' : '5']], ENDED)],
  ]),
];

test('client: 8.1.1: a head that announces a body and ends the stream is no answer', async (t) => {
  const peer = new RawPeer({ role: 'client' });
  peer.send(SETTINGS);
  const stream = peer.session.request(REQUEST);
  let answers = 0;
  const reason = new Promise((resolve) => {
    stream.opener = { onResponse: () => (answers += 1), onAbandoned: resolve };
  });
  await peer.until(() => peer.find(FrameType.headers, 1) !== undefined);
  const head = [
    [':status', '200'],
    ['content-length', '5'],
  ] as const;
  peer.send(peer.headers(1, head, ENDED));
  t.match(await reason, { kind: 'reset', remote: false });
  t.equal(answers, 0, 'an HTTP/1.1 client would wait for a body that never comes, and take the next answer for it');
  await peer.until(() => peer.reset(1) !== undefined);
  t.equal(peer.reset(1), 'PROTOCOL_ERROR');
});

for (const [what, code, send] of ANSWERS)
  test(`client: ${what}`, async (t) => {
    const peer = new RawPeer({ role: 'client' });
    peer.send(SETTINGS);
    const stream = peer.session.request(REQUEST);
    const reason = new Promise((resolve) => stream.start({ ...quiet, onClose: resolve }));
    await peer.until(() => peer.find(FrameType.headers, 1) !== undefined);
    peer.send(...send(peer));
    t.match(await reason, { kind: 'reset', remote: false });
    await peer.until(() => peer.reset(1) !== undefined);
    t.equal(peer.reset(1), code);
    t.equal(peer.closed, undefined);
  });

const UNASKED: [what: string, send: (peer: RawPeer) => Uint8Array][] = [
  ['5.1.1: a stream of the server', (p) => p.headers(2, [[':status', '200']])],
  ['5.1: a response to what was not asked', (p) => p.headers(7, [[':status', '200']])],
  ['6.6: PUSH_PROMISE', () => frame(FrameType.pushPromise, 4, 1, uint32(2))],
  ['6.5.2: a server that would take pushes', () => settings([[SettingId.enablePush, 1]])],
];

for (const [what, send] of UNASKED)
  test(`client: ${what} ends the connection`, async (t) => {
    const peer = new RawPeer({ role: 'client' });
    peer.send(SETTINGS);
    peer.session.request(REQUEST);
    await peer.until(() => peer.find(FrameType.headers, 1) !== undefined);
    peer.send(send(peer));
    await peer.until(() => peer.closed !== undefined);
    t.equal(peer.goaway(), 'PROTOCOL_ERROR');
  });

test('8.5: a tunnel takes octets of any kind, and trailers are no part of it', async (t) => {
  const peer = new RawPeer();
  const connect: HeaderList = [
    [':method', 'CONNECT'],
    [':authority', 'a:1'],
    ['content-length', '3'],
  ];
  peer.send(
    OPENING,
    peer.headers(1, connect),
    frame(FrameType.data, 0, 1, Buffer.alloc(10)),
    frame(FrameType.data, Flag.endStream, 1),
  );
  await peer.until(() => peer.streams.length === 1);
  let got = 0;
  await new Promise<void>((resolve) => {
    peer.streams[0]?.start({ ...quiet, onData: (chunk) => void (got += chunk.length), onEnd: resolve });
  });
  t.equal(got, 10);
});
