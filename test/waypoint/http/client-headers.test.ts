// Headers of a request that say what only a proxy may say.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

test('a client cannot forge the identity that an application reads, nor what the next Envoy obeys', async (t) => {
  const waypoint = memoryWaypoint();
  const client = waypoint.connect();
  const fields = [
    'X-Forwarded-Client-Cert: By=spiffe://evil',
    'x: y',
    'x-forwarded-client-cert: Hash=1',
    'x-envoy-retry-on: 5xx',
    'x-envoy-upstream-rq-timeout-ms: 1',
    'x-envoy-decorator-operation: d',
    'x-forwarded-for: 1.2.3.4',
  ];
  client.start(new TextReader());
  client.write(Buffer.from(`GET / HTTP/1.1\r\nhost: a\r\n${fields.join('\r\n')}\r\n\r\n`));
  await turns();
  const backend = new TextReader();
  waypoint.backends[0]?.start(backend);
  await turns();
  t.notMatch(backend.text, /cert|retry|timeout/iu);
  t.match(backend.text, /\r\nx: y\r\nx-envoy-decorator-operation: d\r\nx-forwarded-for: 1\.2\.3\.4\r\n/u, 'others stay');
});

test('over HTTP/2, too', async (t) => {
  const waypoint = memoryWaypoint({ clientHttp2: true });
  const session = new Http2Session(waypoint.connect(), { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  await turns();
  session.request(
    [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':authority', 'a'],
      [':path', '/'],
      ['x-forwarded-client-cert', 'By=spiffe://evil'],
    ],
    true,
  );
  await turns();
  const backend = new TextReader();
  waypoint.backends[0]?.start(backend);
  await turns();
  t.match(backend.text, /^GET \/ /u);
  t.notMatch(backend.text, /cert/u);
});
