// Peers that ask and do not read: heads are not under flow control, so what is answered with a head alone waits in this process.
import { test } from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { ByteStream, StreamHandler } from '#shared/reactor/api.ts';
import { frame, HeaderMaker, OPENING, REQUEST } from '../../harness/raw-http2.ts';

/** A transport whose peer reads only when read() is called. */
class Unread implements ByteStream {
  buffered = 0;
  paused = false;
  #handler: StreamHandler | undefined;

  start(handler: StreamHandler): void {
    this.#handler = handler;
  }

  receive(bytes: Uint8Array): void {
    this.#handler?.onData(bytes);
  }

  read(): void {
    this.#handler?.onDrain();
  }

  write(chunk: Uint8Array): boolean {
    this.buffered += chunk.length;
    return false;
  }

  end(): void {}
  reset(): void {}
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const LIMIT = 100_000;

/** `answers`: each request at once, with a head alone. */
function setUp(answers = true) {
  const wire = new Unread();
  let answered = 0;
  let closed = false;
  const session = new Http2Session(wire, {
    role: 'server',
    clock: new FakeClock(),
    limits: { controlBacklog: LIMIT },
    onStream: (stream) => {
      answered += 1;
      if (answers) stream.respond(403, [['x-why', `${answered}`.padEnd(500, 'a')]], true);
    },
    onClose: () => (closed = true),
  });
  return { wire, session, answered: () => answered, closed: () => closed };
}

test('a peer whose requests are refused and who reads no answer is not read on, until it does', async (t) => {
  const { wire, session, answered, closed } = setUp();
  const peer = new HeaderMaker();
  wire.receive(OPENING);
  await nextTurn();
  const requests = (count: number, from: number): Buffer =>
    Buffer.concat(
      Array.from({ length: count }, (_, i) => peer.headers((from + i) * 2 + 1, REQUEST, Flag.endHeaders | Flag.endStream)),
    );
  let sent = 0;
  for (let turn = 0; turn < 500 && !wire.paused; turn += 1) {
    wire.receive(requests(20, sent));
    sent += 20;
    await nextTurn();
  }
  t.ok(wire.paused, 'it is not read on');
  t.ok(answered() * 400 < LIMIT * 1.5, `${answered()} answers wait`);
  t.notOk(closed(), 'a slow peer is no attacker');
  wire.read();
  t.notOk(wire.paused, 'it has read');
  t.equal(session.streams, 0);
  const before = answered();
  wire.receive(requests(1, sent));
  await nextTurn();
  t.equal(answered(), before + 1);
});

test('answers that are acknowledged without having been asked for, and GOAWAY again and again, have a limit', async (t) => {
  const floods: [what: string, flood: Buffer][] = [
    ['PING', frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8))],
    ['SETTINGS', frame(FrameType.settings, Flag.ack, 0)],
    ['GOAWAY', frame(FrameType.goaway, 0, 0, Buffer.alloc(8))],
  ];
  for (const [what, each] of floods) {
    const { wire, closed } = setUp(false);
    wire.receive(Buffer.concat([OPENING, new HeaderMaker().headers(1, REQUEST)]));
    wire.receive(Buffer.concat(Array.from({ length: 30_000 }, () => each)));
    await nextTurn();
    t.ok(closed(), what);
  }
});
