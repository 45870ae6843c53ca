// A request that a backend's connection does not take fails alone.
import { test } from 'tap';
import { FakeClock, systemClock } from '#shared/clock.ts';
import { BufferPool } from '#shared/http2/output.ts';
import { Http2Session } from '#shared/http2/session.ts';
import { H1Client } from '../../../waypoint/http/h1-client.ts';
import { H2Client } from '../../../waypoint/http/h2.ts';
import type { RequestHead } from '../../../waypoint/http/request.ts';
import { Headers } from '../../../waypoint/http/request.ts';
import { TextReader, turns } from '../../harness/memory-waypoint.ts';
import { streamPair } from '../../harness/stream-pair.ts';

const deps = {
  clock: new FakeClock(),
  defer: (task: () => void) => void setImmediate(task),
  buffers: new BufferPool(4096, 4),
};
const EVENTS = { onInformational: () => undefined, onResponse: () => undefined };

const headWith = (value: string): RequestHead => ({
  method: 'GET',
  path: '/',
  authority: 'a',
  scheme: 'http',
  protocol: 'HTTP/1.1',
  headers: new Headers([['x', value]]),
});

test('a head that cannot be sent does not end what others have under way on an HTTP/2 connection', async (t) => {
  const [own, backend] = streamPair();
  const session = new Http2Session(backend, { role: 'server', clock: systemClock });
  t.teardown(() => session.close());
  const client = new H2Client(own, deps, () => undefined);
  client.request(headWith('fine'), true, EVENTS);
  t.throws(() => client.request(headWith('a\nb'), true, EVENTS), { code: 'internal' });
  await turns();
  t.ok(client.usable);
  t.notOk(client.idle);
});

test('an HTTP/1.1 connection that did not take a head is closed, and nothing of it was sent', async (t) => {
  const [own, backend] = streamPair();
  const reader = new TextReader();
  backend.start(reader);
  const client = new H1Client(own, deps, () => undefined);
  t.throws(() => client.request(headWith('a\nb'), true, EVENTS), { code: 'internal' });
  await turns();
  t.notOk(client.usable);
  t.ok(reader.closed);
  t.equal(reader.text, '');
});
