// Interim (1xx) heads go on whether the client reads or not: a backend must not fill the waypoint's memory with them.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

/** A client that does not read gets this much of one answer at most: the heads' limit, and what the codecs add. */
const ENOUGH = 80_000;
const HINT = `HTTP/1.1 103 Early Hints\r\nlink: ${'x'.repeat(50_000)}\r\n\r\n`;
const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';

test('large interim heads do not pile up for an HTTP/1.1 client that does not read', async (t) => {
  const waypoint = memoryWaypoint();
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.pause();
  client.write(Buffer.from(ASK));
  await turns();
  for (let head = 0; head < 10; head += 1) waypoint.backends[0]?.write(Buffer.from(HINT));
  await turns();
  t.ok(client.peer.buffered < ENOUGH, `${client.peer.buffered} octets wait`);
  t.match(waypoint.records[0], { status: 502, flag: 'UPE' });
  client.resume();
  await turns();
  t.match(reader.text, /^HTTP\/1\.1 103 [^]*\r\n\r\nHTTP\/1\.1 502 /u, 'what was within the limit has gone on');
});

test('large interim heads do not pile up for an HTTP/2 client that does not read', async (t) => {
  const waypoint = memoryWaypoint({ clientHttp2: true });
  const client = waypoint.connect();
  const session = new Http2Session(client, { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  await turns();
  const ask = [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', 'a'],
    [':path', '/'],
  ] as const;
  const requests = 5;
  for (let request = 0; request < requests; request += 1) session.request(ask, true);
  await turns();
  client.pause();
  for (const backend of waypoint.backends) for (let head = 0; head < 10; head += 1) backend.write(Buffer.from(HINT));
  await turns(100);
  t.ok(client.peer.buffered < requests * ENOUGH, `${client.peer.buffered} octets wait`);
  t.equal(waypoint.records.filter(({ status }) => status === 502).length, requests);
});

test('an answer may have some small interim heads', async (t) => {
  const waypoint = memoryWaypoint();
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.write(Buffer.from(ASK));
  await turns();
  const small = 'HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n';
  waypoint.backends[0]?.write(Buffer.from(`${small.repeat(50)}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n`));
  await turns();
  t.equal(reader.text.split('HTTP/1.1 103').length - 1, 50);
  t.match(reader.text, /HTTP\/1\.1 200 OK/u);
});
