// The time of a route: from the end of the request to the end of the answer. And what becomes of requests that wait for a connection.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { REQUEST } from '../../harness/raw-http2.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

const TIMEOUT = 300;
/** A connection that takes so many turns is on its way for all of the test's first part. */
const SLOW_DIAL = 60;
const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';
const POST = 'POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n';
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n';
const ignore = (): void => undefined;
const IGNORE = { onData: ignore, onEnd: ignore, onDrain: ignore, onClose: ignore };

function clientOf(waypoint: ReturnType<typeof memoryWaypoint>): { send: (text: string) => Promise<void>; reader: TextReader } {
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  const send = async (text: string): Promise<void> => {
    client.write(Buffer.from(text));
    await turns();
  };
  return { send, reader };
}

test('the time of a route begins with the end of the request', async (t) => {
  const waypoint = memoryWaypoint({ timeout: TIMEOUT });
  const { send, reader } = clientOf(waypoint);
  await send(`${POST}123`);
  waypoint.clock.advance(10 * TIMEOUT);
  await send('45');
  t.equal(reader.text, '', 'an upload may take longer');
  waypoint.clock.advance(TIMEOUT - 1);
  await turns();
  t.equal(reader.text, '');
  waypoint.clock.advance(1);
  await turns();
  t.match(reader.text, /^HTTP\/1\.1 504 /u);
  t.match(waypoint.records, [{ flag: 'UT', details: 'response_timeout' }]);
});

test('connecting takes from the time of a route', async (t) => {
  for (const backendHttp2 of [false, true])
    for (const request of [ASK, `${POST}12345`, 'POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n']) {
      const waypoint = memoryWaypoint({ timeout: TIMEOUT, dialTurns: SLOW_DIAL, backendHttp2 });
      const { send, reader } = clientOf(waypoint);
      await send(request);
      waypoint.clock.advance(TIMEOUT);
      await turns();
      t.match(reader.text, /^HTTP\/1\.1 504 /u);
      t.match(waypoint.records, [{ flag: 'UT' }]);
    }
});

test('the time of the backend begins with the end of the request, and is not told of an answer that comes before', async (t) => {
  for (const early of [false, true]) {
    const waypoint = memoryWaypoint();
    const { send, reader } = clientOf(waypoint);
    await send(`${POST}123`);
    waypoint.clock.advance(1000);
    if (!early) await send('45');
    waypoint.clock.advance(20);
    waypoint.backends[0]?.write(Buffer.from(OK));
    await turns();
    t.equal(/x-envoy-upstream-service-time: (\d+)\r\n/u.exec(reader.text)?.[1], early ? undefined : '20');
    t.equal(waypoint.records[0]?.serviceTime, early ? undefined : 20);
  }
});

test('an upgraded connection has no time', async (t) => {
  const waypoint = memoryWaypoint({ timeout: TIMEOUT });
  const { send, reader } = clientOf(waypoint);
  await send('GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n');
  const switched = 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n';
  waypoint.backends[0]?.write(Buffer.from(switched));
  await turns();
  waypoint.clock.advance(10 * TIMEOUT);
  await turns();
  waypoint.backends[0]?.write(Buffer.from('still here'));
  await turns();
  t.match(reader.text, /still here$/u);
});

test('a connection that came too late serves the next request, and goes when there is none', async (t) => {
  const waypoint = memoryWaypoint({ timeout: TIMEOUT, dialTurns: SLOW_DIAL });
  const { send, reader } = clientOf(waypoint);
  await send(ASK);
  waypoint.clock.advance(TIMEOUT);
  await turns(2 * SLOW_DIAL);
  const [backend] = waypoint.backends;
  const asked = new TextReader();
  backend?.start(asked);
  await turns();
  t.equal(asked.text, '', 'the request that timed out is not sent');
  await send(ASK);
  backend?.write(Buffer.from(OK));
  await turns();
  t.match(reader.text, /^HTTP\/1\.1 504 [^]*HTTP\/1\.1 200 /u);
  t.equal(waypoint.backends.length, 1);
  waypoint.clock.advance(10_000);
  await turns();
  t.equal(waypoint.connections(), 0);
});

test('a connection that came too late, and that nobody uses, goes', async (t) => {
  for (const backendHttp2 of [false, true]) {
    const waypoint = memoryWaypoint({ timeout: TIMEOUT, dialTurns: SLOW_DIAL, backendHttp2 });
    const { send } = clientOf(waypoint);
    await send(ASK);
    waypoint.clock.advance(TIMEOUT);
    await turns(2 * SLOW_DIAL);
    const streams: Http2Stream[] = [];
    const [backend] = waypoint.backends;
    if (backendHttp2 && backend) {
      const onStream = (stream: Http2Stream): void => void streams.push(stream);
      const session = new Http2Session(backend, { role: 'server', clock: systemClock, onStream });
      t.teardown(() => session.close());
    }
    await turns();
    t.equal(waypoint.connections(), 1);
    t.same(streams, []);
    waypoint.clock.advance(3_700_000);
    await turns();
    t.equal(waypoint.connections(), 0);
  }
});

test('the request of a client that goes while it waits for a connection is not sent', async (t) => {
  const waypoint = memoryWaypoint({ dialTurns: SLOW_DIAL });
  const client = waypoint.connect();
  client.start(new TextReader());
  client.write(Buffer.from(`${POST}12345`));
  await turns();
  client.reset();
  await turns();
  t.match(waypoint.records, [{ flag: 'DC' }], 'and that it is gone is known at once');
  await turns(SLOW_DIAL);
  const asked = new TextReader();
  waypoint.backends[0]?.start(asked);
  await turns();
  t.equal(asked.text, '');
  t.equal(asked.closed, false);
});

test('a body that comes before there is a connection for it arrives, however long it is', async (t) => {
  for (const size of [0, 5, 200_000]) {
    const waypoint = memoryWaypoint({ dialTurns: SLOW_DIAL });
    let left = size;
    const next = (): void => {
      while (left > 0) {
        const count = Math.min(left, 5000);
        left -= count;
        if (!client.write(Buffer.alloc(count, 'x'))) return;
      }
    };
    const client = waypoint.connect();
    client.start(new TextReader(next));
    client.write(Buffer.from(`POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: ${size}\r\n\r\n`));
    next();
    await turns();
    t.ok(left > 0 || size < 100_000, 'a long one waits at the client');
    await turns(SLOW_DIAL);
    const asked = new TextReader();
    waypoint.backends[0]?.start(asked);
    await turns(300);
    t.equal(asked.text.split('\r\n\r\n')[1], 'x'.repeat(size));
    waypoint.backends[0]?.write(Buffer.from(OK));
    await turns();
    t.match(waypoint.records, [{ status: 200, received: size }]);
  }
});

test('trailers that come before there is a connection for them arrive', async (t) => {
  const waypoint = memoryWaypoint({ clientHttp2: true, dialTurns: SLOW_DIAL });
  const session = new Http2Session(waypoint.connect(), { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  await turns();
  const request = session.request(REQUEST);
  request.start(IGNORE);
  request.write(Buffer.from('abc'));
  request.endWith([['x-sum', '1']]);
  await turns(2 * SLOW_DIAL);
  const asked = new TextReader();
  waypoint.backends[0]?.start(asked);
  await turns();
  t.match(asked.text, /\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n$/u);
});
