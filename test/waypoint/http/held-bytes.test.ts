// Bytes that wait within the waypoint are copies. The event loop reads all connections into the same memory: what is merely pointed at
// becomes the bytes of whoever is read next (h2load: "no HTTP/2 connection preface" on connections that came in the same turn).
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { BufferPool } from '#shared/http2/output.ts';
import type { ByteStream, StreamHandler } from '#shared/reactor/api.ts';
import { Expiry } from '../../../waypoint/expiry.ts';
import { H1Server } from '../../../waypoint/http/h1-server.ts';
import type { ServerMessage } from '../../../waypoint/http/message.ts';
import { Headers } from '../../../waypoint/http/request.ts';
import { UpgradedStream } from '../../../waypoint/http/upgraded.ts';
import { DetectingStream } from '../../../waypoint/listener/detect.ts';

/** A stream whose reads all use one buffer, which has other bytes as soon as the handler returns. */
class SharedMemoryStream implements ByteStream {
  readonly buffered = 0;
  written = '';
  #handler: StreamHandler | undefined;

  start(handler: StreamHandler): void {
    this.#handler = handler;
  }

  receive(text: string): void {
    lend(text, (chunk) => this.#handler?.onData(chunk));
  }

  write(chunk: Uint8Array): boolean {
    this.written += Buffer.from(chunk).toString('latin1');
    return true;
  }

  end(): void {}
  reset(): void {}
  pause(): void {}
  resume(): void {}
}

const scratch = Buffer.alloc(4096);

function lend(text: string, use: (chunk: Buffer) => void): void {
  use(scratch.subarray(0, scratch.write(text, 'latin1')));
  scratch.fill('?');
}

class Reader implements StreamHandler {
  read = '';

  onData(chunk: Uint8Array): void {
    this.read += Buffer.from(chunk).toString('latin1');
  }

  onTrailers(): void {}
  onEnd(): void {}
  onDrain(): void {}
  onClose(): void {}
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A server over the stream; each request goes to `onRequest`. */
function serve(stream: ByteStream, onRequest: (message: ServerMessage) => void): void {
  const deps = {
    expiry: new Expiry(systemClock),
    buffers: new BufferPool(4096, 4),
    defer: (task: () => void) => void setImmediate(task),
  };
  void new H1Server(stream, deps, onRequest, () => undefined);
}

const answer = (message: ServerMessage): void =>
  message.respond({ status: 200, headers: new Headers([['content-length', '0']]) }, true);

test('the first bytes of a connection, looked at to tell its protocol', async (t) => {
  const stream = new SharedMemoryStream();
  const detecting = new DetectingStream(stream);
  const detected = detecting.detect(systemClock, 0);
  stream.receive('PRI * HT');
  stream.receive('TP/2.0\r\n\r\nSM\r\n\r\n');
  t.equal(await detected, 'http2');
  const reader = new Reader();
  detecting.start(reader);
  await nextTurn();
  t.equal(reader.read, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
});

test('a body that comes before its backend is connected', async (t) => {
  const stream = new SharedMemoryStream();
  const messages: ServerMessage[] = [];
  serve(stream, (message) => void messages.push(message));
  stream.receive('POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234');
  stream.receive('56789');
  const reader = new Reader();
  messages[0]?.start(reader);
  await nextTurn();
  t.equal(reader.read, '0123456789');
});

test('requests that wait behind another one', async (t) => {
  for (const pieces of [
    ['GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n'],
    ['GET /a HTTP/1.1\r\nhost: a\r\n\r\n', 'GET /b HTTP/1.1\r\n', 'host: a\r\n\r\n'],
  ]) {
    const stream = new SharedMemoryStream();
    const messages: ServerMessage[] = [];
    serve(stream, (message) => void messages.push(message));
    for (const piece of pieces) stream.receive(piece);
    for (let at = 0; at < 2; at++) {
      const message = messages[at];
      if (message) answer(message);
      await nextTurn();
    }
    t.strictSame(
      messages.map(({ head }) => head.path),
      ['/a', '/b'],
      `in ${pieces.length} reads`,
    );
    t.match(stream.written, /^HTTP\/1\.1 200 [^]*HTTP\/1\.1 200 /u);
  }
});

test('bytes behind an upgrade that nobody reads yet', async (t) => {
  const upgraded = new UpgradedStream(new SharedMemoryStream());
  lend('first', (chunk) => upgraded.receive(chunk));
  lend(' second', (chunk) => upgraded.receive(chunk));
  const reader = new Reader();
  upgraded.start(reader);
  await nextTurn();
  t.equal(reader.read, 'first second');
});
