// Requests without a body, as an HTTP/1.1 backend gets them.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

/** The head that the backend gets. */
async function headOf(method: string, clientHttp2: boolean, fields = ''): Promise<string> {
  const waypoint = memoryWaypoint({ clientHttp2 });
  const client = waypoint.connect();
  if (clientHttp2) {
    const session = new Http2Session(client, { role: 'client', clock: systemClock });
    await turns();
    const head = [
      [':method', method],
      [':scheme', 'http'],
      [':authority', 'a'],
      [':path', '/a'],
    ] as const;
    session.request(head, true);
  } else {
    client.start(new TextReader());
    client.write(Buffer.from(`${method} /a HTTP/1.1\r\nhost: a\r\n${fields}\r\n`));
  }
  await turns();
  const asked = new TextReader();
  waypoint.backends[0]?.start(asked);
  await turns();
  client.reset();
  return asked.text;
}

test('a method that may have a body says so when it has none, as Envoy lets it', async (t) => {
  for (const clientHttp2 of [false, true]) {
    for (const method of ['POST', 'PUT', 'PATCH', 'OPTIONS'])
      t.match(await headOf(method, clientHttp2), /\r\ncontent-length: 0\r\n/u, method);
    for (const method of ['GET', 'HEAD', 'DELETE', 'TRACE'])
      t.notMatch(await headOf(method, clientHttp2), /content-length/u, method);
  }
});

test('a length of nothing is told once', async (t) => {
  for (const method of ['POST', 'GET'])
    t.equal((await headOf(method, false, 'content-length: 0\r\n')).match(/content-length: 0\r\n/gu)?.length, 1, method);
});
