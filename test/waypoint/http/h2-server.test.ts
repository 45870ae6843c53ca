// HTTP/2 connections of clients: what they are refused, and how long they may stay without a request.
import { type Test, test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { memoryWaypoint, turns } from '../../harness/memory-waypoint.ts';

const HOUR = 3_600_000;
const GET: HeaderList = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'a'],
  [':path', '/'],
];
const CONNECT: HeaderList = [
  [':method', 'CONNECT'],
  [':authority', 'a:1'],
];

interface Client {
  readonly waypoint: ReturnType<typeof memoryWaypoint>;
  readonly session: Http2Session;
  readonly closed: () => boolean;
}

async function connect(t: Test): Promise<Client> {
  const waypoint = memoryWaypoint({ clientHttp2: true });
  let closed = false;
  const session = new Http2Session(waypoint.connect(), {
    role: 'client',
    clock: systemClock,
    onClose: () => void (closed = true),
  });
  t.teardown(() => session.close());
  await turns();
  return { waypoint, session, closed: () => closed };
}

test('a refused CONNECT leaves no stream behind, though its client does not end it', async (t) => {
  const { session, waypoint } = await connect(t);
  const most = session.available;
  const statuses = new Set<string | undefined>();
  for (let at = 0; at < most; at += 1)
    session.request(CONNECT).opener = { onResponse: (headers) => void statuses.add(headers[0]?.[1]) };
  t.equal(session.available, 0);
  await turns();
  t.same([...statuses], ['405']);
  t.equal(session.available, most);
  session.request(GET, true);
  await turns();
  t.equal(waypoint.backends.length, 1, 'the next request is served');
});

test('a connection without a request is drained after an hour', async (t) => {
  const { waypoint, closed } = await connect(t);
  waypoint.clock.advance(HOUR - 1000);
  await turns();
  t.notOk(closed());
  waypoint.clock.advance(2000);
  await turns();
  t.ok(closed());
});

test('a connection with a request under way is not idle, and has another hour behind it', async (t) => {
  const { waypoint, session, closed } = await connect(t);
  session.request(GET, true).start({
    onData: () => undefined,
    onEnd: () => undefined,
    onDrain: () => undefined,
    onClose: () => undefined,
  });
  await turns();
  waypoint.clock.advance(3 * HOUR);
  await turns();
  t.notOk(closed());
  waypoint.backends[0]?.write(Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'));
  await turns();
  waypoint.clock.advance(HOUR - 1000);
  await turns();
  t.notOk(closed());
  waypoint.clock.advance(2000);
  await turns();
  t.ok(closed());
});
