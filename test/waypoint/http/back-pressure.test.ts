// Who does not read holds its sender back, however small the pieces are, and hears everything once it reads.
import { test } from 'tap';
import { MessageWriter } from '#shared/http1/serializer.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';
import { type MemoryStream, streamPair } from '../../harness/stream-pair.ts';

const HIGH_WATER = 16_384;
/** What may be under way: the connections on both sides, and a piece or two within the waypoint. */
const MOST = 3 * HIGH_WATER;
const PIECES = 5000;
const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';

/** Writes pieces for as long as the stream takes them; goes on when called again. Tells what it has written. */
function sender(stream: MemoryStream, piece: string): { next: () => void; written: () => number } {
  const octets = Buffer.from(piece, 'latin1');
  let left = PIECES;
  return {
    next: () => {
      while (left > 0) {
        left -= 1;
        if (!stream.write(octets)) return;
      }
    },
    written: () => (PIECES - left) * octets.length,
  };
}

/** The x behind the head. */
const countOf = ({ text }: TextReader): number => text.slice(text.indexOf('\r\n\r\n')).replaceAll(/[^x]/gu, '').length;

for (const [what, body, begin] of [
  ['chunks', '64\r\n' + 'x'.repeat(100) + '\r\n', 'transfer-encoding: chunked'],
  ['pieces of a length', 'x'.repeat(100), `content-length: ${PIECES * 100}`],
] as const) {
  test(`a client that does not read an answer in small ${what} holds the backend back`, async (t) => {
    const waypoint = memoryWaypoint({ highWater: HIGH_WATER });
    const client = waypoint.connect();
    const reader = new TextReader();
    client.start(reader);
    client.write(Buffer.from(ASK));
    await turns();
    const [backend] = waypoint.backends;
    if (!backend) throw new Error('no connection to the backend');
    const { next, written } = sender(backend, body);
    backend.start(new TextReader(next));
    client.pause();
    backend.write(Buffer.from(`HTTP/1.1 200 OK\r\n${begin}\r\n\r\n`));
    next();
    await turns(1000);
    t.ok(written() < MOST, `${written()} octets taken`);
    client.resume();
    await turns(1000);
    t.equal(written(), PIECES * body.length);
    t.equal(countOf(reader), PIECES * 100, 'all of it came');
  });

  test(`a backend that does not read a request in small ${what} holds the client back`, async (t) => {
    const waypoint = memoryWaypoint({ highWater: HIGH_WATER });
    const client = waypoint.connect();
    const { next, written } = sender(client, body);
    client.start(new TextReader(next));
    client.write(Buffer.from(`POST /a HTTP/1.1\r\nhost: a\r\n${begin}\r\n\r\n`));
    next();
    await turns(1000);
    t.ok(written() < MOST, `${written()} octets taken`);
    const reader = new TextReader();
    waypoint.backends[0]?.start(reader);
    await turns(1000);
    t.equal(written(), PIECES * body.length);
    t.equal(countOf(reader), PIECES * 100, 'all of it came');
  });
}

test('a writer whose gathered octets met a full stream says so until the stream has drained', async (t) => {
  const [own, peer] = streamPair({ highWater: 1000 });
  const writer = new MessageWriter(own);
  let drains = 0;
  own.start(
    new TextReader(() => {
      drains += 1;
      writer.drained();
    }),
  );
  writer.response(200, [['content-length', '2000']], { kind: 'length', length: 2000 });
  t.ok(writer.write(Buffer.alloc(1000)), 'gathered');
  await turns(2);
  t.notOk(writer.write(Buffer.alloc(1)), 'taken, and a pause asked for');
  peer.start(new TextReader());
  await turns();
  t.equal(drains, 1);
  t.ok(writer.write(Buffer.alloc(1)));
});

test('a connection whose client did not read the end of an answer serves the next client', async (t) => {
  const waypoint = memoryWaypoint({ highWater: 1000 });
  const slow = waypoint.connect();
  slow.start(new TextReader());
  slow.write(Buffer.from(ASK));
  await turns();
  const [backend] = waypoint.backends;
  if (!backend) throw new Error('no connection to the backend');
  backend.start(new TextReader());
  slow.pause();
  // In pieces: the last ones meet a client that is not ready for more.
  backend.write(Buffer.from(`HTTP/1.1 200 OK\r\ncontent-length: 8000\r\n\r\n${'x'.repeat(2000)}`));
  await turns();
  backend.write(Buffer.alloc(6000, 'x'));
  await turns();
  slow.resume();
  await turns();
  slow.pause();
  slow.write(Buffer.from(ASK));
  await turns();
  backend.write(Buffer.from(`HTTP/1.1 200 OK\r\ncontent-length: 6000\r\n\r\n${'y'.repeat(6000)}`));
  await turns();

  const next = waypoint.connect();
  const reader = new TextReader();
  next.start(reader);
  next.write(Buffer.from(ASK));
  await turns();
  t.equal(waypoint.backends.length, 1, 'on the same connection');
  backend.write(Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'));
  await turns();
  t.match(reader.text, /ok$/u);
});
