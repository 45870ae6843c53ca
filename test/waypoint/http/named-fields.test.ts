// Fields that a request's Connection field names, and those that go to the next hop in one form only.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

/** What the backend and the client get. */
async function send(...fields: string[]): Promise<{ seen: string; answer: string }> {
  const waypoint = memoryWaypoint();
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.write(Buffer.from(`GET / HTTP/1.1\r\nhost: a\r\n${fields.join('\r\n')}\r\n\r\n`));
  await turns();
  const backend = new TextReader();
  waypoint.backends[0]?.start(backend);
  await turns();
  return { seen: backend.text, answer: reader.text };
}

test('Connection does not take away what the waypoint adds', async (t) => {
  const { seen } = await send('connection: x-request-id, x-a', 'x-request-id: mine', 'x-a: 1', 'x-b: 2');
  t.match(seen, /\r\nx-b: 2\r\nx-forwarded-proto: http\r\nx-request-id: id\r\n\r\n$/u);
  t.notMatch(seen, /x-a|mine|connection/u);
});

test('Connection cannot name what proxies say for those behind them', async (t) => {
  for (const name of ['host', 'X-Forwarded-For', 'x-forwarded-host', 'x-a, x-forwarded-proto', ':path']) {
    const { seen, answer } = await send(`connection: ${name}`, 'x-forwarded-for: 1.2.3.4');
    t.match(answer, /^HTTP\/1\.1 400 /u, name);
    t.equal(seen, '');
  }
});

test('an upgrade is one, whatever else Connection names', async (t) => {
  const { seen } = await send('connection: Upgrade, x-a', 'upgrade: websocket', 'x-a: 1');
  t.match(seen, /\r\nconnection: upgrade\r\nupgrade: websocket\r\n/u);
  t.notMatch(seen, /x-a/u);
});

test('`te: Trailers` goes to an HTTP/2 backend in lower case, and alone', async (t) => {
  const waypoint = memoryWaypoint({ backendHttp2: true });
  const client = waypoint.connect();
  client.start(new TextReader());
  client.write(Buffer.from('GET / HTTP/1.1\r\nhost: a\r\nconnection: te\r\nte: gzip, Trailers\r\n\r\n'));
  await turns();
  let seen: HeaderList = [];
  const backend = waypoint.backends[0];
  if (!backend) throw new Error('no backend');
  const session = new Http2Session(backend, {
    role: 'server',
    clock: systemClock,
    onStream: (stream) => void (seen = stream.headers),
  });
  t.teardown(() => session.close());
  await turns();
  t.same(
    seen.filter(([name]) => name === 'te' || name === 'connection'),
    [['te', 'trailers']],
  );
});
