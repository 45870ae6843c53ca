// Backends that speak HTTP/2 and go away, or lie about their body, under a client that speaks HTTP/1.1; and the other way round.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

const nothing = (): void => undefined;
const quiet = { onData: nothing, onEnd: nothing, onDrain: nothing, onClose: nothing };

/** A client that has asked for these, one behind the other. */
async function asked(waypoint: ReturnType<typeof memoryWaypoint>, ...paths: string[]): Promise<TextReader> {
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.write(Buffer.from(paths.map((path) => `GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`).join('')));
  await turns();
  return reader;
}

test('one that closes, however and whenever, is a 503 that says so', async (t) => {
  for (const first of ['before its SETTINGS', 'with a request'])
    for (const way of ['end', 'reset'] as const) {
      const waypoint = memoryWaypoint({ backendHttp2: true });
      const reader = await asked(waypoint, '/a');
      const [backend] = waypoint.backends;
      if (first === 'with a request' && backend)
        void new Http2Session(backend, { role: 'server', clock: systemClock, onStream: (stream) => stream.start(quiet) });
      await turns();
      backend?.[way]();
      await turns();
      t.match(reader.text, /^HTTP\/1\.1 503/u, `${way} ${first}`);
      t.match(waypoint.records, [{ status: 503, flag: 'UC' }], `${way} ${first}`);
    }
});

test('one that announces a body and ends: the next answer is not taken for it', async (t) => {
  const waypoint = memoryWaypoint({ backendHttp2: true });
  const reader = await asked(waypoint, '/1', '/2');
  const [backend] = waypoint.backends;
  if (!backend) throw new Error('no backend was asked');
  const onStream = (stream: Http2Stream): void => {
    stream.start(quiet);
    const lies = stream.headers.some(([, value]) => value === '/1');
    stream.respond(200, [['content-length', lies ? '60' : '0']], true);
  };
  const session = new Http2Session(backend, { role: 'server', clock: systemClock, onStream });
  t.teardown(() => session.close());
  await turns();
  await turns();
  t.match(reader.text, /^HTTP\/1\.1 502 [^]*HTTP\/1\.1 200 /u);
});

test('trailers of one connection are not those of the next: a client that speaks HTTP/2 would refuse them', async (t) => {
  const waypoint = memoryWaypoint({ clientHttp2: true });
  const session = new Http2Session(waypoint.connect(), { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  await turns();
  const head = Object.entries({ ':method': 'GET', ':scheme': 'http', ':authority': 'a', ':path': '/' });
  const stream = session.request(head, true);
  const [bodies, trailers, ends]: [string[], unknown[], string[]] = [[], [], []];
  stream.start({
    ...quiet,
    onData: (chunk) => void bodies.push(Buffer.from(chunk).toString()),
    onTrailers: (list) => void trailers.push(...list),
    onClose: ({ kind }) => void ends.push(kind),
  });
  await turns();
  const answer = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nkeep-alive: x\r\nsum: 1\r\n\r\n';
  waypoint.backends[0]?.write(Buffer.from(answer));
  await turns();
  t.same([bodies, trailers, ends], [['abc'], [['sum', '1']], ['ended']]);
});
