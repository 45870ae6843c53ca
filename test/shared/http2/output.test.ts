import { test } from 'tap';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import { BufferPool, Output } from '#shared/http2/output.ts';
import type { ByteStream } from '#shared/reactor/api.ts';

/** An output over a transport that keeps what it gets. */
function setup(size = 10_000) {
  const written: Buffer[] = [];
  const state = { more: true, dirty: 0 };
  const transport: ByteStream = {
    buffered: 0,
    start: () => {},
    write: (chunk) => {
      written.push(Buffer.from(chunk));
      return state.more;
    },
    end: () => {},
    reset: () => {},
    pause: () => {},
    resume: () => {},
  };
  const pool = new BufferPool(size, 2);
  return { written, state, pool, output: new Output(transport, pool, () => state.dirty++) };
}

/** [type, flags, stream, payload] of each frame. */
function frames(bytes: Buffer): [number, number, number, string][] {
  const list: [number, number, number, string][] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    list.push([bytes[at + 3]!, bytes[at + 4]!, bytes.readUInt32BE(at + 5), bytes.toString('latin1', at + 9, end)]);
    at = end;
  }
  return list;
}

const data = (output: Output, id: number, text: string, max = 16_384): void =>
  output.data(id, Buffer.from(text), 0, text.length, max);

test('small writes join one DATA frame, and END_STREAM joins it too', (t) => {
  const { output, written, state } = setup();
  data(output, 1, 'hello ');
  data(output, 1, 'world');
  data(output, 3, 'other');
  data(output, 1, 'again');
  output.endStream(1);
  output.endStream(3);
  t.equal(state.dirty, 1);
  t.equal(written.length, 0, 'nothing leaves before flush');
  output.flush();
  t.same(frames(Buffer.concat(written)), [
    [FrameType.data, 0, 1, 'hello world'],
    [FrameType.data, 0, 3, 'other'],
    [FrameType.data, Flag.endStream, 1, 'again'],
    [FrameType.data, Flag.endStream, 3, ''],
  ]);
  t.equal(written.length, 1, 'one write');
  t.end();
});

test('a frame is never longer than the peer takes', (t) => {
  const { output, written } = setup();
  data(output, 1, 'abcd', 6);
  data(output, 1, 'efgh', 6);
  output.headers(5, Buffer.from('0123456789'), true, 4);
  output.flush();
  t.same(frames(Buffer.concat(written)), [
    [FrameType.data, 0, 1, 'abcd'],
    [FrameType.data, 0, 1, 'efgh'],
    [FrameType.headers, Flag.endStream, 5, '0123'],
    [FrameType.continuation, 0, 5, '4567'],
    [FrameType.continuation, Flag.endHeaders, 5, '89'],
  ]);
  t.end();
});

test('a read straight into the output, and one that other frames got in front of', (t) => {
  const { output, written } = setup();
  const lent = output.space(100);
  t.equal(lent.length, 100);
  lent.set(Buffer.from('direct'));
  output.data(1, lent.subarray(0, 6), 0, 6, 16_384);
  const second = output.space(100);
  second.set(Buffer.from('later'));
  const kept = Buffer.from(second.subarray(0, 5));
  output.numberFrame(FrameType.windowUpdate, 0, 7);
  output.data(1, kept, 0, 5, 16_384);
  output.flush();
  t.same(frames(Buffer.concat(written)), [
    [FrameType.data, 0, 1, 'direct'],
    [FrameType.windowUpdate, 0, 0, '\0\0\0\u0007'],
    [FrameType.data, 0, 1, 'later'],
  ]);
  t.end();
});

test('a lent buffer goes back at the end of the turn though nothing was read', (t) => {
  const { output, state, pool, written } = setup();
  const lent = output.space(10);
  t.equal(state.dirty, 1, 'a turn is asked for');
  output.flush();
  t.equal(written.length, 0);
  t.equal(pool.take().buffer, lent.buffer, 'the pool has it again');
  t.end();
});

test('blocked: no room for DATA, other frames are kept and sent in order', (t) => {
  const { output, state, written } = setup();
  state.more = false;
  data(output, 1, 'x');
  output.flush();
  t.equal(output.blocked, true);
  t.equal(output.room(), 0);
  for (let i = 0; i < 2000; i++) output.numberFrame(FrameType.windowUpdate, 1, i + 1);
  output.flush();
  t.equal(written.length, 1, 'nothing leaves while blocked');
  t.equal(output.length, 2000 * 13, 'and it outgrows the buffer of the pool');
  state.more = true;
  output.unblock();
  t.equal(frames(Buffer.concat(written)).length, 2001);
  t.ok(output.room() > 0);
  t.end();
});

test('a full buffer is flushed within the turn', (t) => {
  const { output, written } = setup();
  for (let i = 0; i < 50; i++) {
    t.ok(output.room() >= 1000);
    data(output, 1, 'y'.repeat(1000));
  }
  output.flush();
  t.ok(written.length > 4);
  t.equal(
    frames(Buffer.concat(written)).reduce((sum, [, , , payload]) => sum + payload.length, 0),
    50_000,
  );
  t.end();
});
