// An answer that is complete before its request.
import { type Test, test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { REQUEST } from '../../harness/raw-http2.ts';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';
import type { MemoryStream } from '../../harness/stream-pair.ts';

const PIECES = 5000;
const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';
const ignore = (): void => undefined;
const IGNORE = { onData: ignore, onEnd: ignore, onDrain: ignore, onClose: ignore };

/** A client that has sent the head of an upload, and sends of its body as much as it is let. */
function uploader(waypoint: ReturnType<typeof memoryWaypoint>) {
  const client = waypoint.connect();
  let pieces = PIECES;
  const next = (): void => {
    while (pieces > 0) {
      pieces -= 1;
      if (!client.write(Buffer.alloc(100, 'x'))) return;
    }
  };
  const reader = new TextReader(next);
  client.start(reader);
  client.write(Buffer.from(`POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: ${PIECES * 100}\r\n\r\n`));
  return { client, reader, next, left: () => pieces };
}

test('a client that was held back when an early answer came can send the rest of its request', async (t) => {
  const waypoint = memoryWaypoint();
  const { client, reader, next, left } = uploader(waypoint);
  next();
  await turns(100);
  waypoint.backends[0]?.write(Buffer.from('HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n'));
  await turns(1000);
  t.match(reader.text, /^HTTP\/1\.1 413 /u);
  t.equal(left(), 0);
  client.write(Buffer.from(ASK));
  await turns();
  t.equal(waypoint.records.length, 1);
  t.equal(waypoint.backends.length, 2, 'the next request is served');
});

/** Serves as an HTTP/2 backend that answers in full when a request begins, reads it if it `reads`, and keeps how its streams end. */
function answerEarly(t: Test, backend: MemoryStream | undefined, reads: boolean): CloseReason[] {
  const closed: CloseReason[] = [];
  if (!backend) throw new Error('no connection to the backend');
  const session = new Http2Session(backend, {
    role: 'server',
    clock: systemClock,
    onStream: (stream) => {
      stream.start({ ...IGNORE, onClose: (reason) => void closed.push(reason) });
      if (!reads) stream.pause();
      stream.respond(200, [['content-length', '0']], true);
    },
  });
  t.teardown(() => session.close());
  return closed;
}

test('a backend that has answered in full is let go of, as Envoy does, whether it reads the rest or not', async (t) => {
  for (const reads of [true, false]) {
    const waypoint = memoryWaypoint({ backendHttp2: true });
    const client = waypoint.connect();
    const reader = new TextReader();
    client.start(reader);
    client.write(Buffer.from('POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n1234'));
    await turns();
    const closed = answerEarly(t, waypoint.backends[0], reads);
    await turns();
    t.match(reader.text, /^HTTP\/1\.1 200 /u);
    t.match(closed, [{ kind: 'reset', remote: true }]);
    client.write(Buffer.from(`5678${ASK}`));
    await turns();
    t.equal(waypoint.records.length, 2, 'the next request is served');
  }
});

test('a backend that answers in full and reads no more does not hold up an HTTP/1.1 client', async (t) => {
  const waypoint = memoryWaypoint({ backendHttp2: true });
  const { client, reader, next, left } = uploader(waypoint);
  await turns();
  answerEarly(t, waypoint.backends[0], false);
  await turns();
  next();
  await turns(500);
  t.equal(left(), 0);
  client.write(Buffer.from(ASK));
  await turns();
  t.equal(reader.text.match(/HTTP\/1\.1 200/gu)?.length, 2);
});

test('a backend that answers in full and reads no more does not hold up an HTTP/2 client', async (t) => {
  const waypoint = memoryWaypoint({ backendHttp2: true, clientHttp2: true });
  const session = new Http2Session(waypoint.connect(), { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  await turns();
  const request = session.request(REQUEST);
  let left = PIECES;
  let closed: CloseReason | undefined;
  const next = (): void => {
    while (left > 0) {
      left -= 1;
      if (!request.write(Buffer.alloc(1000))) return;
    }
    request.end();
  };
  request.start({ ...IGNORE, onDrain: next, onClose: (reason) => void (closed = reason) });
  await turns();
  answerEarly(t, waypoint.backends[0], false);
  await turns();
  next();
  await turns(1000);
  t.equal(left, 0);
  t.same(closed, { kind: 'ended' });
});

test('a client that has its answer before the end of its request is not gone', async (t) => {
  for (const backendHttp2 of [true, false]) {
    const waypoint = memoryWaypoint({ backendHttp2 });
    const client = waypoint.connect();
    client.start(new TextReader());
    client.write(Buffer.from('POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 8\r\n\r\n1234'));
    await turns();
    if (backendHttp2) answerEarly(t, waypoint.backends[0], true);
    else waypoint.backends[0]?.write(Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'));
    await turns();
    t.match(waypoint.records, [{ status: 200, flag: '-', details: 'via_upstream' }]);
  }
});
