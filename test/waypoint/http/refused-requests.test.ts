// What came as HTTP/1.1 and is none is answered, and told.
import { test } from 'tap';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';
const BAD_BODY = 'POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n';

test('a head that cannot be understood has a line in the access log', async (t) => {
  for (const [text, status] of [
    ['GET / HTTP/1.1\r\nhost: a\r\nbad field\r\n\r\n', 400],
    ['rubbish\r\n\r\n', 400],
    [`GET / HTTP/1.1\r\nhost: a\r\nx: ${'x'.repeat(70_000)}\r\n\r\n`, 431],
  ] as const) {
    const waypoint = memoryWaypoint({ direct: { status: 200, body: 'ok' } });
    const client = waypoint.connect();
    client.start(new TextReader());
    client.write(Buffer.from(ASK + text));
    await turns();
    const [answered, refused, ...more] = waypoint.records;
    t.match(answered, { status: 200 });
    t.match(refused, { status, flag: 'DPE', details: 'http1.codec_error', head: { method: '', protocol: 'HTTP/1.1' } });
    t.same(more, []);
  }
});

test('a body that cannot be understood is no client that has gone', async (t) => {
  for (const dialTurns of [0, 100]) {
    const waypoint = memoryWaypoint({ dialTurns });
    const client = waypoint.connect();
    const reader = new TextReader();
    client.start(reader);
    client.write(Buffer.from(BAD_BODY));
    await turns();
    t.match(reader.text, /^HTTP\/1\.1 400 /u);
    t.match(waypoint.records, [{ status: 400, flag: 'DPE', head: { path: '/b' } }]);
  }
});

test('a body that cannot be understood behind the beginning of its answer cuts that', async (t) => {
  const waypoint = memoryWaypoint();
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.write(Buffer.from('POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n'));
  await turns();
  waypoint.backends[0]?.write(Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab'));
  await turns();
  client.write(Buffer.from('zz\r\n'));
  await turns();
  t.match(waypoint.records, [{ status: 200, flag: 'DC' }]);
  t.ok(reader.closed);
});
