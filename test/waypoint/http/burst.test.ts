// More requests at once than a connection to an HTTP/2 backend takes.
import { type Test, test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';
const BURST = 250;
/** What a connection takes. */
const STREAMS = 100;
const SPARE_MS = 4000;
const HOUR = 3_600_000;

type Waypoint = ReturnType<typeof memoryWaypoint>;

/** Serves what connections the waypoint has made so far, on call. */
function serveBackends(t: Test, waypoint: Waypoint, onStream: (stream: Http2Stream) => void): () => void {
  const sessions: Http2Session[] = [];
  t.teardown(() => {
    for (const session of sessions) session.close();
  });
  return () => {
    for (const backend of waypoint.backends.slice(sessions.length))
      sessions.push(new Http2Session(backend, { role: 'server', clock: systemClock, onStream }));
  };
}

const answer = (stream: Http2Stream): void => stream.respond(200, [['content-length', '0']], true);

/** Requests of as many clients at once. */
function ask(waypoint: Waypoint, count: number): TextReader[] {
  return Array.from({ length: count }, () => {
    const client = waypoint.connect();
    const reader = new TextReader();
    client.start(reader);
    client.write(Buffer.from(ASK));
    return reader;
  });
}

const served = (readers: TextReader[]): number => readers.filter(({ text }) => text.startsWith('HTTP/1.1 200')).length;

test('requests that wait for the first connection to an HTTP/2 backend are all served, however few it takes at once', async (t) => {
  const waypoint = memoryWaypoint({ backendHttp2: true, dialTurns: 5 });
  const serve = serveBackends(t, waypoint, answer);
  const readers = ask(waypoint, BURST);
  for (let round = 0; round < 5; round += 1) {
    await turns(20);
    serve();
  }
  t.equal(served(readers), BURST);
  t.equal(waypoint.backends.length, Math.ceil(BURST / STREAMS));
});

test('connections that a burst needed are used again, go when it is over, and the last one after an hour', async (t) => {
  const waypoint = memoryWaypoint({ backendHttp2: true, dialTurns: 5 });
  const waiting: Http2Stream[] = [];
  const serve = serveBackends(t, waypoint, (stream) => void waiting.push(stream));
  for (let burst = 0; burst < 3; burst += 1) {
    const readers = ask(waypoint, BURST);
    for (let round = 0; round < 5; round += 1) {
      await turns(20);
      serve();
    }
    t.equal(waiting.length, BURST, 'all under way at once');
    for (const stream of waiting.splice(0)) answer(stream);
    await turns();
    t.equal(served(readers), BURST);
  }
  t.equal(waypoint.backends.length, Math.ceil(BURST / STREAMS), 'no more than one burst needs');
  waypoint.clock.advance(SPARE_MS + 100);
  await turns();
  t.equal(waypoint.connections(), 1);
  waypoint.clock.advance(HOUR);
  await turns();
  t.equal(waypoint.connections(), 0);
  const readers = ask(waypoint, 1);
  await turns();
  serve();
  await turns();
  for (const stream of waiting.splice(0)) answer(stream);
  await turns();
  t.equal(served(readers), 1, 'and another one is made when it is needed');
});

test('a connection that cannot be made fails those that wait for it, and the next request tries again', async (t) => {
  let fails = true;
  const waypoint = memoryWaypoint({ backendHttp2: true, dialTurns: 5, refuses: () => fails });
  const serve = serveBackends(t, waypoint, answer);
  const failed = ask(waypoint, 2);
  await turns();
  t.ok(failed.every(({ text }) => text.startsWith('HTTP/1.1 503')));
  fails = false;
  const readers = ask(waypoint, 1);
  await turns();
  serve();
  await turns();
  t.equal(served(readers), 1);
});
