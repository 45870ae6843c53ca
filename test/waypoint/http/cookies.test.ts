// HTTP/2 may cut the cookies of a request into several fields; elsewhere they are one (RFC 9113, section 8.2.3).
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

test('cookies that an HTTP/2 client sent in crumbs reach the backend as one field', async (t) => {
  const waypoint = memoryWaypoint({ clientHttp2: true });
  const session = new Http2Session(waypoint.connect(), { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  const headers: HeaderList = [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', 'a'],
    [':path', '/'],
    ['cookie', 'a=1'],
    ['x', 'y'],
    ['cookie', 'b=2; c=3'],
    ['cookie', 'd=4'],
    ['cookie', ''],
  ];
  await turns();
  session.request(headers, true);
  await turns();
  const reader = new TextReader();
  waypoint.backends[0]?.start(reader);
  await turns();
  t.match(reader.text, /\r\ncookie: a=1; b=2; c=3; d=4\r\nx: y\r\n/u);
  t.equal(reader.text.match(/cookie/gu)?.length, 1);
});
