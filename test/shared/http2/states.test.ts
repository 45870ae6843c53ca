// What each frame does in each state of a stream (RFC 9113, section 5.1).
import { once } from 'node:events';
import { test } from 'tap';
import { MeshError } from '#shared/errors.ts';
import { encodeSettings, Flag, FrameType, PREFACE, SettingId, type SettingList } from '#shared/http2/frames.ts';
import { frame, OPENING, RawPeer, REQUEST, SETTINGS, uint32 } from '../../harness/raw-http2.ts';

const ENDED = Flag.endHeaders | Flag.endStream;
const settings = (list: SettingList): Buffer => frame(FrameType.settings, 0, 0, encodeSettings(list));
const NOTHING = (): void => undefined;
const quiet = { onData: NOTHING, onEnd: NOTHING, onDrain: NOTHING, onClose: NOTHING };

/** Stream 3 of a server in each state; stream 1 is passed over. */
const STATES: Record<string, (peer: RawPeer) => Promise<void>> = {
  async idle(peer) {
    peer.send(OPENING);
    await peer.until(() => peer.find(FrameType.settings) !== undefined);
  },
  async open(peer) {
    peer.send(OPENING, peer.headers(3, REQUEST));
    await peer.until(() => peer.streams.length === 1);
    peer.streams[0]?.start(quiet);
  },
  async 'half-closed (remote)'(peer) {
    peer.send(OPENING, peer.headers(3, REQUEST, ENDED));
    await peer.until(() => peer.streams.length === 1);
    peer.streams[0]?.start(quiet);
  },
  async 'half-closed (local)'(peer) {
    await STATES['open']?.(peer);
    peer.streams[0]?.respond(200, [], true);
    await peer.until(() => peer.find(FrameType.headers, 3) !== undefined);
  },
  async 'closed in order'(peer) {
    await STATES['half-closed (remote)']?.(peer);
    peer.streams[0]?.respond(200, [], true);
    await peer.until(() => peer.find(FrameType.headers, 3) !== undefined && peer.session.streams === 0);
  },
  async 'closed by its reset'(peer) {
    await STATES['open']?.(peer);
    peer.send(frame(FrameType.rstStream, 0, 3, uint32(8)));
    await peer.until(() => peer.session.streams === 0);
  },
  async 'closed by our reset'(peer) {
    await STATES['open']?.(peer);
    peer.streams[0]?.reset(8);
    await peer.until(() => peer.reset(3) !== undefined);
    peer.frames.length = 0;
  },
  async 'passed over'(peer) {
    peer.send(OPENING, peer.headers(5, REQUEST));
    await peer.until(() => peer.streams.length === 1);
  },
};

const FRAMES: Record<string, (peer: RawPeer) => Uint8Array> = {
  DATA: () => frame(FrameType.data, 0, 3, Buffer.alloc(3)),
  HEADERS: (peer) => peer.headers(3, [['x', 'y']], ENDED),
  PRIORITY: () => frame(FrameType.priority, 0, 3, Buffer.alloc(5)),
  RST_STREAM: () => frame(FrameType.rstStream, 0, 3, uint32(8)),
  WINDOW_UPDATE: () => frame(FrameType.windowUpdate, 0, 3, uint32(1)),
  'unknown type': () => frame(99, 0, 3, Buffer.alloc(3)),
};

/** What follows: nothing, or the end of the stream or of the connection with a code. A request in the wrong state is malformed as one. */
const EXPECTED: Record<string, Partial<Record<string, `${'stream' | 'connection'} ${string}`>>> = {
  idle: {
    DATA: 'connection PROTOCOL_ERROR',
    HEADERS: 'stream PROTOCOL_ERROR',
    RST_STREAM: 'connection PROTOCOL_ERROR',
    WINDOW_UPDATE: 'connection PROTOCOL_ERROR',
  },
  open: {},
  'half-closed (remote)': { DATA: 'stream STREAM_CLOSED', HEADERS: 'stream STREAM_CLOSED' },
  'half-closed (local)': {},
  'closed in order': { DATA: 'stream STREAM_CLOSED', HEADERS: 'stream STREAM_CLOSED' },
  'closed by its reset': { DATA: 'stream STREAM_CLOSED', HEADERS: 'stream STREAM_CLOSED' },
  'closed by our reset': {},
  'passed over': { DATA: 'connection PROTOCOL_ERROR', HEADERS: 'connection PROTOCOL_ERROR' },
};

for (const [state, reach] of Object.entries(STATES))
  for (const [name, make] of Object.entries(FRAMES)) {
    const expected = EXPECTED[state]?.[name];
    test(`5.1: ${name} in state ${state}: ${expected ?? 'nothing ends'}`, async (t) => {
      const peer = new RawPeer();
      await reach(peer);
      peer.send(make(peer), frame(FrameType.ping, 0, 0, Buffer.from('and then')));
      await peer.until(() => peer.goaway() !== undefined || peer.find(FrameType.ping) !== undefined);
      const [scope, code] = expected?.split(' ') ?? [];
      t.equal(peer.goaway(), scope === 'connection' ? code : undefined);
      t.equal(peer.reset(3), scope === 'stream' ? code : undefined);
      if (scope !== 'connection') return;
      await peer.until(() => peer.closed !== undefined);
      t.match(peer.closed, { kind: 'error', error: { code: 'protocol_error' } });
    });
  }

test('5.1: what is under way to a stream that was reset here is ignored, and answered when that is long ago', async (t) => {
  const peer = new RawPeer({ settings: { maxStreams: 1000 } });
  peer.send(OPENING, ...Array.from({ length: 300 }, (_, i) => peer.headers(i * 2 + 1, REQUEST)));
  await peer.until(() => peer.streams.length === 300);
  for (const stream of peer.streams) stream.reset(8);
  await peer.until(() => peer.reset(599) !== undefined);
  peer.frames.length = 0;
  for (let i = 0; i < 300; i++) peer.send(frame(FrameType.data, 0, i * 2 + 1, Buffer.alloc(10)));
  peer.send(frame(FrameType.ping, 0, 0, Buffer.alloc(8)));
  await peer.until(() => peer.find(FrameType.ping) !== undefined);
  t.equal(peer.reset(599), undefined);
  t.equal(peer.frames.filter(({ type, id }) => type === FrameType.rstStream && id === 1).length, 1);
  t.equal(peer.closed, undefined);
});

test('what throws at an interim head ends its stream, and no other', async (t) => {
  const peer = new RawPeer({ role: 'client' });
  const [first, second] = [peer.session.request(REQUEST), peer.session.request(REQUEST)];
  first.opener = {
    onInformational: () => {
      throw new Error('a fault of ours');
    },
  };
  let answered = false;
  second.opener = { onResponse: () => void (answered = true) };
  peer.send(SETTINGS, peer.headers(1, [[':status', '103']]), peer.headers(3, [[':status', '200']]));
  await peer.until(() => answered && peer.reset(1) !== undefined);
  t.equal(peer.reset(1), 'INTERNAL_ERROR');
  t.equal(peer.closed, undefined);
});

test('what throws in the handler of a stream ends that stream, and no other', async (t) => {
  const fault = (): void => {
    throw new Error('the test broke it');
  };
  for (const callback of ['onData', 'onEnd', 'onDrain', 'onStream'] as const) {
    const peer = new RawPeer(callback === 'onStream' ? { onStream: fault } : {});
    const window = callback === 'onDrain' ? settings([[SettingId.initialWindowSize, 1]]) : SETTINGS;
    peer.send(PREFACE, window, peer.headers(1, REQUEST), peer.headers(3, REQUEST));
    if (callback !== 'onStream') {
      await peer.until(() => peer.streams.length === 2);
      const [broken] = peer.streams;
      const reason = new Promise((resolve) => broken?.start({ ...quiet, [callback]: fault, onClose: resolve }));
      broken?.respond(200);
      broken?.write(Buffer.alloc(2));
      peer.send(frame(FrameType.data, Flag.endStream, 1, Buffer.alloc(1)), frame(FrameType.windowUpdate, 0, 1, uint32(5)));
      t.match(await reason, { kind: 'error', error: { code: 'internal', message: /the test broke it/u } }, callback);
    }
    await peer.until(() => peer.reset(1) !== undefined);
    t.equal(peer.reset(1), 'INTERNAL_ERROR');
    t.equal(peer.closed, undefined, 'the connection lives on');
  }
});

// The walk over the streams stopped at the first one that threw, and the others never heard that their connection was gone. Out of a timer
// it ended the process.
test('what throws in the onClose of a stream is reported, and reaches neither the others nor the caller', async (t) => {
  const ways: Record<string, (peer: RawPeer) => void> = {
    'the session is closed': (peer) => peer.session.close(new MeshError('reset', 'the peer is gone')),
    'the peer resets it': (peer) => peer.send(frame(FrameType.rstStream, 0, 1, uint32(8))),
    'it is reset here': (peer) => peer.streams[0]?.reset(),
    'the connection is lost': (peer) => peer.leave(),
  };
  for (const [what, act] of Object.entries(ways)) {
    const peer = new RawPeer();
    const closed: number[] = [];
    peer.send(OPENING, ...[1, 3, 5].map((id) => peer.headers(id, REQUEST)));
    await peer.until(() => peer.streams.length === 3);
    const warned = once(process, 'warning');
    for (const stream of peer.streams)
      stream.start({
        ...quiet,
        onClose: () => {
          closed.push(stream.id);
          if (stream.id === 1) throw new Error('the test broke it');
        },
      });
    act(peer);
    t.match(await warned, [{ code: 'internal', message: /the test broke it/u }], what);
    const connection = what === 'the session is closed' || what === 'the connection is lost';
    if (connection) await peer.until(() => peer.closed !== undefined);
    else t.equal(peer.closed, undefined, 'the connection lives on');
    t.strictSame(closed, connection ? [1, 3, 5] : [1], what);
  }
});

test('what throws in onInformational, or in the onEnd of a stream that was started late, ends that stream and no other', async (t) => {
  const fault = (): void => {
    throw new Error('the test broke it');
  };
  const late = new RawPeer();
  late.send(OPENING, late.headers(1, REQUEST, ENDED));
  await late.until(() => late.streams.length === 1);
  late.streams[0]?.respond(200, [], true);
  await late.until(() => late.find(FrameType.headers, 1) !== undefined);
  const told = new Promise((resolve) => late.streams[0]?.start({ ...quiet, onEnd: fault, onClose: resolve }));
  t.match(await told, { kind: 'error', error: { code: 'internal', message: /the test broke it/u } });
  t.equal(late.closed, undefined);

  const peer = new RawPeer({ role: 'client' });
  const stream = peer.session.request(REQUEST);
  stream.opener = { onInformational: fault };
  const reason = new Promise((resolve) => stream.start({ ...quiet, onClose: resolve }));
  peer.send(SETTINGS, peer.headers(1, [[':status', '103']]));
  t.match(await reason, { kind: 'error', error: { code: 'internal', message: /the test broke it/u } });
  t.equal(peer.closed, undefined);
});

test('a reader is told which bytes are the last', async (t) => {
  const peer = new RawPeer();
  peer.send(OPENING, ...[1, 3, 5].map((id) => peer.headers(id, REQUEST)));
  await peer.until(() => peer.streams.length === 3);
  const told: string[] = [];
  for (const stream of peer.streams)
    stream.start({
      ...quiet,
      onData: (chunk, last) => void told.push(`${stream.id} ${Buffer.from(chunk).toString()} ${String(last)}`),
      onEnd: () => void told.push(`${stream.id} end`),
    });
  peer.send(
    frame(FrameType.data, 0, 1, Buffer.from('one')),
    frame(FrameType.data, Flag.endStream, 1, Buffer.from('more')),
    frame(FrameType.data, 0, 3, Buffer.from('three')),
    frame(FrameType.data, Flag.endStream, 3, Buffer.alloc(0)),
    frame(FrameType.data, Flag.endStream | Flag.padded, 5, Buffer.from('\u0002five\0\0')),
  );
  await peer.until(() => told.length === 7);
  t.strictSame(told, ['1 one false', '1 more true', '1 end', '3 three false', '3 end', '5 five false', '5 end']);
});

test('what came before anybody read is had at once, and the reader goes on behind it', async (t) => {
  const peer = new RawPeer();
  peer.send(OPENING, peer.headers(1, REQUEST));
  await peer.until(() => peer.streams.length === 1);
  const [stream] = peer.streams;
  t.equal(stream?.takeHeld(), undefined);
  for (const text of ['a', 'b'.repeat(20_000), 'c']) peer.send(frame(FrameType.data, 0, 1, Buffer.from(text.slice(0, 16_384))));
  await peer.until(() => stream?.held === 16_386);
  t.equal(Buffer.from(stream?.takeHeld() ?? []).toString(), `a${'b'.repeat(16_384)}c`);
  t.equal(stream?.takeHeld(), undefined);
  let text = '';
  let ended = false;
  stream?.start({ ...quiet, onData: (chunk) => void (text += Buffer.from(chunk).toString()), onEnd: () => void (ended = true) });
  peer.send(frame(FrameType.data, Flag.endStream, 1, Buffer.from('rest')));
  await peer.until(() => ended);
  t.equal(text, 'rest');
});
