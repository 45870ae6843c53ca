// The rules of RFC 9113 from the side of a peer that breaks them: what ends a stream, what ends the connection, and with which error.
import { test } from 'tap';
import { MeshError } from '#shared/errors.ts';
import { Flag, FrameType, PREFACE } from '#shared/http2/frames.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { CONNECTION_FAULTS } from '../../harness/http2-faults.ts';
import { frame, OPENING, RawPeer, REQUEST, SETTINGS, uint32 } from '../../harness/raw-http2.ts';

const ENDED = Flag.endHeaders | Flag.endStream;

for (const [what, code, send] of CONNECTION_FAULTS) {
  test(`connection fault: ${what}`, async (t) => {
    const peer = new RawPeer();
    peer.send(...send(peer));
    await peer.until(() => peer.closed !== undefined && peer.ended);
    t.equal(peer.goaway(), code);
    t.match(peer.closed, { kind: 'error', error: { code: 'protocol_error', message: new RegExp(code, 'u') } });
  });
}

const without = (name: string): HeaderList => REQUEST.filter(([own]) => own !== name);

/** These requests are malformed: the stream ends with PROTOCOL_ERROR, the connection lives on. */
const MALFORMED: [what: string, headers: HeaderList][] = [
  ['no method', without(':method')],
  ['no path', without(':path')],
  ['no scheme', without(':scheme')],
  ['empty path', [...without(':path'), [':path', '']]],
  ['two paths', [...REQUEST, [':path', '/b']]],
  ['unknown pseudo-header', [...REQUEST, [':x', 'y']]],
  ['response pseudo-header', [...REQUEST, [':status', '200']]],
  ['pseudo-header behind a field', [...without(':path'), ['x', 'y'], [':path', '/']]],
  ['upper-case name', [...REQUEST, ['X-A', 'y']]],
  ['space in a name', [...REQUEST, ['x a', 'y']]],
  ['line break in a value', [...REQUEST, ['x', 'a\r\nb: c']]],
  ['NUL in a value', [...REQUEST, ['x', 'a\0']]],
  ['space around a value', [...REQUEST, ['x', ' a']]],
  ['connection', [...REQUEST, ['connection', 'close']]],
  ['transfer-encoding', [...REQUEST, ['transfer-encoding', 'chunked']]],
  ['te other than trailers', [...REQUEST, ['te', 'gzip']]],
  ['CONNECT without authority', [[':method', 'CONNECT']]],
  [
    'CONNECT with path',
    [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
      [':path', '/'],
    ],
  ],
  ['two different lengths', [...REQUEST, ['content-length', '1'], ['content-length', '2']]],
  ['no length', [...REQUEST, ['content-length', '-1']]],
];

test('malformed requests end their stream only', async (t) => {
  const peer = new RawPeer();
  peer.send(OPENING);
  for (const [i, [what, headers]] of MALFORMED.entries()) {
    const id = i * 2 + 1;
    peer.send(peer.headers(id, headers));
    await peer.until(() => peer.reset(id) !== undefined);
    t.equal(peer.reset(id), 'PROTOCOL_ERROR', what);
  }
  t.equal(peer.streams.length, 0);
  peer.send(peer.headers(1001, REQUEST, ENDED));
  await peer.until(() => peer.streams.length === 1);
  t.equal(peer.closed, undefined);
});

test('faults of one stream', async (t) => {
  const peer = new RawPeer({ settings: { streamWindow: 1000, maxStreamWindow: 1000 } });
  const faults: [what: string, code: string, frames: (id: number) => Uint8Array[]][] = [
    [
      'DATA behind END_STREAM',
      'STREAM_CLOSED',
      (id) => [peer.headers(id, REQUEST, ENDED), frame(FrameType.data, 0, id, Buffer.alloc(1))],
    ],
    [
      'DATA over the window',
      'FLOW_CONTROL_ERROR',
      (id) => [peer.headers(id, REQUEST), frame(FrameType.data, 0, id, Buffer.alloc(1001))],
    ],
    [
      'body over its length',
      'PROTOCOL_ERROR',
      (id) => [peer.headers(id, [...REQUEST, ['content-length', '2']]), frame(FrameType.data, 0, id, Buffer.alloc(3))],
    ],
    [
      'body under its length',
      'PROTOCOL_ERROR',
      (id) => [peer.headers(id, [...REQUEST, ['content-length', '2']]), frame(FrameType.data, 1, id, Buffer.alloc(1))],
    ],
    ['trailers without END_STREAM', 'PROTOCOL_ERROR', (id) => [peer.headers(id, REQUEST), peer.headers(id, [['x', 'y']])]],
    [
      'pseudo-header in trailers',
      'PROTOCOL_ERROR',
      (id) => [peer.headers(id, REQUEST), peer.headers(id, [[':path', '/']], ENDED)],
    ],
    ['WINDOW_UPDATE 0', 'PROTOCOL_ERROR', (id) => [peer.headers(id, REQUEST), frame(FrameType.windowUpdate, 0, id, uint32(0))]],
    [
      'window over 2^31-1',
      'FLOW_CONTROL_ERROR',
      (id) => [peer.headers(id, REQUEST), frame(FrameType.windowUpdate, 0, id, uint32(2 ** 31 - 1))],
    ],
  ];
  peer.send(OPENING);
  for (const [i, [what, code, frames]] of faults.entries()) {
    const id = i * 2 + 1;
    peer.send(...frames(id));
    await peer.until(() => peer.reset(id) !== undefined);
    t.equal(peer.reset(id), code, what);
  }
  t.equal(peer.closed, undefined);
});

test('what a good peer may do', async (t) => {
  const peer = new RawPeer();
  peer.send(PREFACE.subarray(0, 10));
  peer.send(
    PREFACE.subarray(10),
    SETTINGS,
    frame(77, 255, 3, Buffer.alloc(100)),
    frame(FrameType.priority, 0, 9, Buffer.alloc(5)),
  );
  const block = peer.headers(1, [...REQUEST, ['x', 'y'.repeat(500)]], 0).subarray(9);
  const padded = Buffer.concat([Buffer.from([3]), Buffer.alloc(5), block.subarray(0, 20), Buffer.alloc(3)]);
  peer.send(frame(FrameType.headers, Flag.padded | Flag.priority, 1, padded));
  peer.send(frame(FrameType.continuation, 0, 1, block.subarray(20, 50)), frame(FrameType.continuation, 4, 1, block.subarray(50)));
  const body = Buffer.concat([Buffer.from([10]), Buffer.from('hello'), Buffer.alloc(10)]);
  peer.send(frame(FrameType.data, Flag.padded, 1, body), frame(FrameType.data, Flag.endStream, 1, Buffer.from(' you')));
  peer.send(frame(FrameType.ping, 0, 0, Buffer.from('12345678')));
  await peer.until(
    () => peer.streams.length === 1 && peer.frames.some(({ type, flags }) => type === FrameType.ping && flags === 1),
  );
  t.match(peer.streams[0]?.headers.at(-1), ['x', 'y'.repeat(500)]);
  t.equal(peer.frames.find(({ type }) => type === FrameType.ping)?.payload.toString(), '12345678');
  const got: string[] = [];
  const ended = new Promise<void>((resolve) => {
    peer.streams[0]?.start({
      onData: (chunk) => void got.push(Buffer.from(chunk).toString()),
      onEnd: resolve,
      onDrain: () => {},
      onClose: () => {},
    });
  });
  await ended;
  t.equal(got.join(''), 'hello you');
  t.ok(
    peer.frames.some(({ type, flags }) => type === FrameType.settings && flags === 1),
    'SETTINGS are acknowledged',
  );
});

test('graceful GOAWAY in two steps', async (t) => {
  const peer = new RawPeer();
  peer.send(OPENING, peer.headers(1, REQUEST));
  await peer.until(() => peer.streams.length === 1);
  peer.session.drain();
  await peer.until(() => peer.find(FrameType.ping) !== undefined);
  const goaways = () => peer.frames.filter(({ type }) => type === FrameType.goaway).map(({ payload }) => payload.readUInt32BE(0));
  t.same(goaways(), [2 ** 31 - 1]);
  peer.send(peer.headers(3, REQUEST), frame(FrameType.ping, 1, 0, Buffer.alloc(8)));
  await peer.until(() => goaways().length === 2);
  t.same(goaways(), [2 ** 31 - 1, 3], 'a stream under way is still taken');
  peer.send(peer.headers(5, REQUEST));
  for (const stream of peer.streams) stream.respond(200, [], true);
  t.equal(peer.streams.length, 2);
  peer.send(frame(FrameType.data, 1, 1), frame(FrameType.data, 1, 3));
  await peer.until(() => peer.closed !== undefined);
  t.equal(peer.streams.length, 2, 'a later one is not');
  t.same(peer.closed, { kind: 'ended' });
});

test('a client: GOAWAY leaves unprocessed streams retryable', async (t) => {
  const peer = new RawPeer({ role: 'client' });
  peer.send(SETTINGS);
  const [first, second] = [peer.session.request(REQUEST), peer.session.request(REQUEST)];
  const gone: unknown[] = [];
  second.opener = { onAbandoned: (reason) => void gone.push(reason) };
  await peer.until(() => peer.find(FrameType.headers, 3) !== undefined);
  peer.send(frame(FrameType.goaway, 0, 0, uint32(1, 0)));
  await peer.until(() => gone.length === 1);
  t.same(gone, [{ kind: 'reset', remote: true, code: 7 }]);
  t.equal(peer.session.usable, false);
  t.equal(first.closed, undefined);
  t.throws(() => peer.session.request(REQUEST), { code: 'limit_reached' });
  t.throws(
    () =>
      new RawPeer({ role: 'client' }).session.request([
        [':method', 'GET'],
        ['x', 'a\nb'],
      ]),
    { code: 'internal' },
  );
});

test('a connection that is lost ends every stream with an error', async (t) => {
  const peer = new RawPeer();
  peer.send(OPENING, peer.headers(1, REQUEST));
  await peer.until(() => peer.streams.length === 1);
  const reason = new Promise((resolve) => {
    peer.streams[0]?.start({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: resolve });
  });
  peer.session.close(new MeshError('reset', 'cut'));
  t.match(await reason, { kind: 'error', error: { message: 'cut' } });
});
