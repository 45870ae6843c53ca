// Upgrades where one of the two sides speaks HTTP/2, which has neither Upgrade nor 101 (RFC 9113, sections 8.2.2 and 8.6).
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n';
const UPGRADE = 'connection: upgrade\r\nupgrade: websocket\r\n';

/** What a client gets that sends `request` when the HTTP/2 backend answers with `status`; and what the backend got. */
async function askHttp2(
  request: string,
  status: number,
): Promise<{ text: string; heads: HeaderList[]; flag: string | undefined }> {
  const waypoint = memoryWaypoint({ backendHttp2: true });
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.write(Buffer.from(`${request}\r\n`));
  await turns();
  const heads: HeaderList[] = [];
  for (const backend of waypoint.backends)
    void new Http2Session(backend, {
      role: 'server',
      clock: systemClock,
      onStream: (stream) => {
        heads.push(stream.headers);
        stream.respond(status, [], status >= 200);
      },
    });
  await turns();
  client.reset();
  return { text: reader.text, heads, flag: waypoint.records[0]?.flag };
}

test('a 101 from an HTTP/2 backend is a protocol error, told at once', async (t) => {
  for (const fields of ['', UPGRADE]) {
    const { text, flag } = await askHttp2(ASK + fields, 101);
    t.match(text, /^HTTP\/1\.1 502 /u, fields);
    t.equal(flag, 'UPE');
  }
});

test('an upgrade is not asked of an HTTP/2 backend, which would refuse the request for its fields', async (t) => {
  const { text, heads } = await askHttp2(ASK + UPGRADE, 200);
  t.match(text, /^HTTP\/1\.1 200 /u);
  const names = heads[0]?.map(([name]) => name);
  t.notOk(names?.includes('connection'));
  t.notOk(names?.includes('upgrade'));
});

test('a backend cannot switch the protocol of an HTTP/2 client', async (t) => {
  const waypoint = memoryWaypoint({ clientHttp2: true });
  const session = new Http2Session(waypoint.connect(), { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  await turns();
  let answer: HeaderList | undefined;
  const path: HeaderList = [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', 'a'],
    [':path', '/'],
  ];
  session.request(path, true).opener = { onResponse: (headers) => void (answer = headers) };
  await turns();
  waypoint.backends[0]?.write(Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${UPGRADE}\r\nabc`));
  await turns();
  t.same(answer?.[0], [':status', '502']);
});
