// A request target has no fragment (RFC 9112, section 3.2): policy would see the path before it, and the backend perhaps all of it.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

test('a path with a fragment does not get past a policy on paths: it is refused', async (t) => {
  for (const target of ['/public#/../private', '/public#x', '/#', '/public?a#x', 'http://a/public#x', 'http://a#x']) {
    const waypoint = memoryWaypoint();
    const client = waypoint.connect();
    const reader = new TextReader();
    client.start(reader);
    client.write(Buffer.from(`GET ${target} HTTP/1.1\r\nhost: a\r\n\r\n`));
    await turns();
    t.match(reader.text, /^HTTP\/1\.1 400 /u, target);
    t.equal(waypoint.backends.length, 0, 'no backend sees it');
    if (target.startsWith('/')) t.match(waypoint.records, [{ status: 400, details: 'path_normalization_failed' }]);
  }
});

test('over HTTP/2, too', async (t) => {
  const waypoint = memoryWaypoint({ clientHttp2: true });
  const session = new Http2Session(waypoint.connect(), { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  await turns();
  const stream = session.request(
    [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':authority', 'a'],
      [':path', '/public#/../private'],
    ],
    true,
  );
  let status: string | undefined;
  stream.opener = { onResponse: (headers) => void (status = headers[0]?.[1]) };
  await turns();
  t.equal(status, '400');
  t.equal(waypoint.backends.length, 0);
  t.match(waypoint.records, [{ status: 400, details: 'path_normalization_failed' }]);
});
