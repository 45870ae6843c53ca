// Behind the last answer of a connection nothing is a request any more, and the client has a second to close.
import { type Test, test } from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { BufferPool } from '#shared/http2/output.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { Expiry } from '../../../waypoint/expiry.ts';
import { H1Server } from '../../../waypoint/http/h1-server.ts';
import type { ServerMessage } from '../../../waypoint/http/message.ts';
import { Headers } from '../../../waypoint/http/request.ts';
import { type MemoryStream, streamPair } from '../../harness/stream-pair.ts';

const LAST = 'GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n';
const SMUGGLED = 'GET /admin HTTP/1.1\r\nhost: a\r\n\r\n';
const AMBIGUOUS = 'POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n';
const FAULTY_CHUNK = 'POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n';
/** Waypoint and client need a few turns to hand over to each other. */
const TURNS = 20;

interface Connection {
  client: MemoryStream;
  server: H1Server;
  clock: FakeClock;
  /** Paths that were served. */
  served: string[];
  /** What the client got. */
  text: () => string;
  closed: () => CloseReason | undefined;
  /** The waypoint's end of the connection is over. */
  forgotten: () => boolean;
  send: (text: string) => Promise<void>;
}

/** A client's connection to a waypoint that answers each request at once, with `body` behind it; first `begin` is called. */
async function connect(t: Test, body = '', begin?: (message: ServerMessage) => void): Promise<Connection> {
  const clock = new FakeClock();
  const [client, stream] = streamPair({ highWater: 4096 });
  t.teardown(() => client.reset());
  const served: string[] = [];
  let text = '';
  let closed: CloseReason | undefined;
  let forgotten = false;
  const deps = {
    expiry: new Expiry(clock),
    buffers: new BufferPool(4096, 4),
    defer: (task: () => void) => void setImmediate(task),
  };
  const onRequest = (message: ServerMessage): void => {
    served.push(message.head.path);
    begin?.(message);
    message.respond({ status: 200, headers: new Headers([['content-length', String(body.length)]]) }, body === '');
    if (body !== '') {
      message.write(Buffer.from(body));
      message.end();
    }
    if (!begin) message.discard();
  };
  const server = new H1Server(stream, deps, onRequest, () => void (forgotten = true));
  client.start({
    onData: (chunk) => void (text += Buffer.from(chunk).toString('latin1')),
    onEnd: () => undefined,
    onDrain: () => undefined,
    onClose: (reason) => void (closed = reason),
  });
  const send = async (octets: string): Promise<void> => {
    client.write(Buffer.from(octets, 'latin1'));
    await settle();
  };
  return { client, server, clock, served, text: () => text, closed: () => closed, forgotten: () => forgotten, send };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

test('what follows a refused request is not read as a request', async (t) => {
  for (const [what, first, second] of [
    ['an ambiguous head', AMBIGUOUS, SMUGGLED],
    ['an ambiguous head, in pieces', AMBIGUOUS, `0\r\n\r\n${SMUGGLED}`],
    ['a faulty chunk', FAULTY_CHUNK, `0\r\n\r\n${SMUGGLED}`],
  ] as const) {
    const { served, send, text } = await connect(t);
    await send(first);
    for (const piece of [second, SMUGGLED, SMUGGLED]) await send(piece);
    t.notOk(served.includes('/admin'), what);
    t.notMatch(text(), /HTTP[^]*HTTP/u, `${what}: one answer at most`);
  }
});

test('what follows an answer that says it is the last is not read as a request', async (t) => {
  for (const pieces of [[LAST, SMUGGLED], [LAST + SMUGGLED], [LAST + SMUGGLED.slice(0, 9), SMUGGLED.slice(9)]]) {
    const { served, send, text } = await connect(t);
    for (const piece of pieces) await send(piece);
    t.same(served, ['/last']);
    t.match(text(), /^HTTP\/1\.1 200 OK\r\n[^]*connection: close\r\n\r\n$/u);
  }
});

test('what comes when a drain has ended an idle connection is not read as a request', async (t) => {
  const { served, send, server } = await connect(t);
  await settle();
  server.endIdle();
  await send(SMUGGLED);
  t.same(served, []);
});

test('a client that does not close behind the last answer is closed after a second', async (t) => {
  for (const [what, request] of [
    ['refused', AMBIGUOUS],
    ['answered', LAST],
    ['answered before its body came', 'POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n'],
  ] as const) {
    const { clock, send, closed } = await connect(t);
    await send(request);
    clock.advance(900);
    await settle();
    t.equal(closed(), undefined, `${what}: it has time`);
    clock.advance(200);
    await settle();
    // NO_ERROR: what the client has of the answer stays good (RFC 9113, section 8.1).
    t.same(closed(), { kind: 'reset', remote: true, code: 0 }, what);
  }
});

test('a client that is slow to read its last answer gets all of it', async (t) => {
  const { client, clock, send, closed, text } = await connect(t, 'x'.repeat(100_000));
  client.pause();
  await send(LAST);
  clock.advance(60_000);
  await settle();
  t.equal(closed(), undefined);
  client.resume();
  await settle();
  t.match(text(), /\r\n\r\nx{100000}$/u);
  clock.advance(1100);
  await settle();
  t.ok(closed());
});

test('a client that closes in order is closed in order', async (t) => {
  for (const request of [AMBIGUOUS, LAST]) {
    const { client, send, forgotten } = await connect(t);
    await send(request);
    client.end();
    await settle();
    t.ok(forgotten());
  }
});

test('the rest of a request behind its last answer is given up, and whoever passes it on hears so', async (t) => {
  let gone: CloseReason | undefined;
  const { send, text } = await connect(t, '', (message) => {
    const ignore = (): void => undefined;
    message.start({
      onData: ignore,
      onTrailers: ignore,
      onEnd: ignore,
      onDrain: ignore,
      onClose: (reason) => void (gone = reason),
    });
  });
  await send('POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\n12');
  t.match(text(), /^HTTP\/1\.1 200 /u);
  t.same(gone, { kind: 'reset', remote: false });
});

test('a byte behind the last request does not keep the connection open for ever: the end of the client is heard', async (t) => {
  for (const [what, request] of [
    ['a stray line end', `${LAST}\r\n`],
    ['a request', LAST + SMUGGLED],
  ] as const) {
    const { client, send, forgotten } = await connect(t);
    await send(request);
    client.end();
    await settle();
    t.ok(forgotten(), what);
  }
});

test('a client that was held back when its last answer was written is heard again', async (t) => {
  const { client, send, forgotten } = await connect(t, '', (message) => message.pause());
  await send(LAST);
  client.end();
  await settle();
  t.ok(forgotten());
});

test('a request that waits for its turn when a drain ends idle connections is served', async (t) => {
  let between = (): void => undefined;
  // Behind the answer, before the turn of the next request.
  const { served, send, server, text } = await connect(t, '', (message) => {
    message.discard();
    queueMicrotask(() => between());
  });
  between = () => server.endIdle();
  const request = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';
  await send(request + request);
  t.same(served, ['/a', '/a']);
  t.equal(text().match(/HTTP\/1\.1 200/gu)?.length, 2);
});
