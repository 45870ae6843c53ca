// A client has a minute for a request head, wherever it begins.
import { test } from 'tap';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';
const PART = 'GET /b HTTP/1.1\r\nho';

test('the part of a head that came behind a whole request has a minute, too', async (t) => {
  for (const pieces of [[PART], [ASK + PART], [ASK, PART]]) {
    const waypoint = memoryWaypoint({ direct: { status: 200, body: 'ok' } });
    const client = waypoint.connect();
    const reader = new TextReader();
    client.start(reader);
    for (const piece of pieces) {
      client.write(Buffer.from(piece));
      await turns();
    }
    waypoint.clock.advance(59_000);
    await turns();
    t.notOk(reader.closed);
    waypoint.clock.advance(1100);
    await turns();
    t.ok(reader.closed, JSON.stringify(pieces));
  }
});

test('a head that came behind a whole request may take a part of that minute', async (t) => {
  const waypoint = memoryWaypoint({ direct: { status: 200, body: 'ok' } });
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.write(Buffer.from(ASK + PART));
  await turns();
  waypoint.clock.advance(59_000);
  client.write(Buffer.from('st: a\r\n\r\n'));
  await turns();
  waypoint.clock.advance(120_000);
  await turns();
  t.equal(waypoint.records.length, 2);
  t.notOk(reader.closed);
});
