// An answer that is complete before its request.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

const PIECES = 5000;
const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';

test('a client that was held back when an early answer came can send the rest of its request', async (t) => {
  const waypoint = memoryWaypoint();
  const client = waypoint.connect();
  let left = PIECES;
  const next = (): void => {
    while (left > 0) {
      left -= 1;
      if (!client.write(Buffer.alloc(100, 'x'))) return;
    }
  };
  const reader = new TextReader(next);
  client.start(reader);
  client.write(Buffer.from(`POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: ${PIECES * 100}\r\n\r\n`));
  next();
  await turns(100);
  waypoint.backends[0]?.write(Buffer.from('HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n'));
  await turns(1000);
  t.match(reader.text, /^HTTP\/1\.1 413 /u);
  t.equal(left, 0);
  client.write(Buffer.from(ASK));
  await turns();
  t.equal(waypoint.records.length, 1);
  t.equal(waypoint.backends.length, 2, 'the next request is served');
});

test('a client that goes behind an early answer takes the rest of its request with it', async (t) => {
  const waypoint = memoryWaypoint({ backendHttp2: true });
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.write(Buffer.from('POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n1234'));
  await turns();
  const [backend] = waypoint.backends;
  if (!backend) throw new Error('no connection to the backend');
  let closed: CloseReason | undefined;
  const session = new Http2Session(backend, {
    role: 'server',
    clock: systemClock,
    onStream: (stream) => {
      const ignore = (): void => undefined;
      stream.start({ onData: ignore, onEnd: ignore, onDrain: ignore, onClose: (reason) => void (closed = reason) });
      stream.respond(200, [['content-length', '0']], true);
    },
  });
  t.teardown(() => session.close());
  await turns();
  t.match(reader.text, /^HTTP\/1\.1 200 /u);
  t.equal(closed, undefined, 'the backend waits for the rest');
  client.reset();
  await turns();
  t.match(closed, { kind: 'reset', remote: true });
});
