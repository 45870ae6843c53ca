// What a peer is told, octet for octet: the SETTINGS and the window of the connection at its begin, and how the window of a stream then follows
// its reader.
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'tap';
import { DEFAULT_WINDOW, FrameType, readUint32 } from '#shared/http2/frames.ts';
import { DEFAULT_SETTINGS } from '#shared/http2/settings.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { frame, OPENING, RawPeer, REQUEST } from '../../harness/raw-http2.ts';

const KIB = 1024;
const PIECE = 64 * KIB;

/** A setting in the six octets of the wire (RFC 9113, section 6.5.1). */
const setting = (id: number, value: number): string => id.toString(16).padStart(4, '0') + value.toString(16).padStart(8, '0');

test('a server announces its settings, and 16 MiB for the connection', async (t) => {
  const peer = new RawPeer();
  peer.send(OPENING);
  await peer.until(() => peer.find(FrameType.windowUpdate, 0) !== undefined);
  const [first, second] = peer.frames;
  t.strictSame([first?.type, first?.flags, first?.id], [FrameType.settings, 0, 0]);
  const announced = [setting(3, 200), setting(1, 4096), setting(4, 256 * KIB), setting(5, 1024 * KIB), setting(6, 64 * KIB)];
  t.equal(first?.payload.toString('hex'), announced.join(''));
  t.equal(second?.type, FrameType.windowUpdate);
  t.equal(readUint32(second?.payload ?? Buffer.alloc(4), 0), 16_384 * KIB - DEFAULT_WINDOW);
});

test('a client announces that it takes no pushes, behind the preface', async (t) => {
  const peer = new RawPeer({ role: 'client' });
  await peer.until(() => peer.find(FrameType.windowUpdate, 0) !== undefined);
  const [first] = peer.frames;
  const announced = [setting(2, 0), setting(1, 4096), setting(4, 256 * KIB), setting(5, 1024 * KIB), setting(6, 64 * KIB)];
  t.strictSame([first?.type, first?.payload.toString('hex')], [FrameType.settings, announced.join('')]);
});

/** A request whose body comes as fast as the window of its stream lets it, to a reader that the test chooses. */
class Upload {
  readonly peer = new RawPeer();
  /** What the peer may send on the stream now. */
  left = DEFAULT_SETTINGS.streamWindow;
  /** The most that it ever was. */
  largest = 0;
  sent = 0;
  #updates = 0;

  async begin(start: (stream: Http2Stream) => void): Promise<void> {
    this.peer.send(OPENING, this.peer.headers(1, REQUEST));
    await this.peer.until(() => this.peer.streams.length === 1);
    const [stream] = this.peer.streams;
    if (stream) start(stream);
  }

  /**
   * Sends until so many octets have been sent in all, piece by piece: what was sent is with the reader before more comes, so that behind a
   * WINDOW_UPDATE `left` is the window itself. False when that has been closed for 200 ms.
   */
  async upTo(octets: number): Promise<boolean> {
    for (let waited = 0; this.sent < octets; await settled()) {
      this.#read();
      const size = Math.min(PIECE, this.left, octets - this.sent);
      if (size === 0) {
        if (waited++ > 40) return false;
        await sleep(5);
        continue;
      }
      waited = 0;
      this.peer.send(frame(FrameType.data, 0, 1, Buffer.alloc(size)));
      this.left -= size;
      this.sent += size;
    }
    this.#read();
    return true;
  }

  #read(): void {
    const updates = this.peer.frames.filter(({ type, id }) => type === FrameType.windowUpdate && id === 1);
    for (const { payload } of updates.slice(this.#updates)) {
      this.left += readUint32(payload, 0);
      this.largest = Math.max(this.largest, this.left);
    }
    this.#updates = updates.length;
  }
}

/** Octets pass the wire in one turn, the reader in another, and the answer comes back in a third. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 4; turns++) await new Promise((resolve) => setImmediate(resolve));
}

const nothing = (): void => undefined;
const fast = { onData: nothing, onEnd: nothing, onDrain: nothing, onClose: nothing };

test('the window of a stream grows for a reader that keeps up, beyond 256 KiB only as it has proved to take more', async (t) => {
  const upload = new Upload();
  await upload.begin((stream) => stream.start(fast));
  t.ok(await upload.upTo(256 * KIB));
  t.equal(upload.largest, 256 * KIB, 'the first window');
  t.ok(await upload.upTo(3 * 1024 * KIB));
  t.equal(upload.largest, 256 * KIB, 'what any reader gets');
  t.ok(await upload.upTo(32 * 1024 * KIB));
  t.ok(upload.largest > 1536 * KIB && upload.largest <= 2048 * KIB, `${upload.largest} after 32 MiB: a sixteenth of them`);
  t.ok(await upload.upTo(96 * 1024 * KIB));
  t.equal(upload.largest, 4096 * KIB, 'the most');
  t.equal(upload.peer.closed, undefined);
});

test('a reader that paused gets its first window and no more, and what it holds is that much', async (t) => {
  const upload = new Upload();
  let stream: Http2Stream | undefined;
  await upload.begin((own) => {
    stream = own;
    own.start(fast);
    own.pause();
  });
  t.notOk(await upload.upTo(1024 * KIB), 'the window is closed');
  t.equal(upload.sent, 256 * KIB);
  t.equal(upload.largest, 0, 'no WINDOW_UPDATE came');
  t.equal(stream?.held, 256 * KIB);
  stream?.resume();
  t.ok(await upload.upTo(1024 * KIB), 'it goes on');
});

test('a reader that lags by turns does not get a larger window', async (t) => {
  const upload = new Upload();
  await upload.begin((stream) => {
    // Each chunk is the last one for a while: something always waits.
    stream.start({
      ...fast,
      onData: () => {
        stream.pause();
        setImmediate(() => stream.resume());
      },
    });
  });
  t.ok(await upload.upTo(2048 * KIB));
  t.equal(upload.largest, 256 * KIB);
});
