// Clients that do not read what they get: what waits for them in the waypoint stays small.
import { test } from 'tap';
import { FakeClock, systemClock } from '#shared/clock.ts';
import { MessageWriter } from '#shared/http1/serializer.ts';
import { BufferPool } from '#shared/http2/output.ts';
import { Expiry } from '../../../waypoint/expiry.ts';
import { H1Server } from '../../../waypoint/http/h1-server.ts';
import type { ServerMessage } from '../../../waypoint/http/message.ts';
import { Headers } from '../../../waypoint/http/request.ts';
import { HandStream } from '../../harness/hand-stream.ts';

/** To a client that reads only when read() is called: write() asks for a pause from the first octet on. */
const unread = (): HandStream => new HandStream(1);

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a client that pipelines requests and reads no answer is answered only as it reads', async (t) => {
  const stream = unread();
  let answered = 0;
  const deps = {
    expiry: new Expiry(systemClock),
    buffers: new BufferPool(4096, 4),
    defer: (task: () => void) => void setImmediate(task),
  };
  void new H1Server(
    stream,
    deps,
    (message) => {
      answered += 1;
      message.respond({ status: 403, headers: new Headers([['content-length', '0']]) }, true);
    },
    () => undefined,
  );
  const request = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n';
  for (let turn = 0; turn < 200; turn += 1) {
    if (!stream.paused) stream.handler.onData(Buffer.from(request.repeat(100)));
    await nextTurn();
  }
  t.ok(answered <= 2, `${answered} answers wait`);
  t.ok(stream.buffered < 1000, `${stream.buffered} octets wait`);
  t.ok(stream.paused, 'no more requests are read');
  const before = answered;
  for (let turn = 0; turn < 100; turn += 1) {
    stream.read();
    await nextTurn();
  }
  t.ok(answered >= before + 30, `it goes on as the client reads: ${answered}`);
});

test('small pieces hold their writer back as large ones do', async (t) => {
  const stream = unread();
  const tasks: (() => void)[] = [];
  const writer = new MessageWriter(stream, { defer: (task) => void tasks.push(task), buffers: new BufferPool(4096, 4) });
  writer.response(200, [['transfer-encoding', 'chunked']], { kind: 'chunked' });
  t.equal(writer.write(Buffer.alloc(10)), true, 'before anything was sent');
  for (const task of tasks.splice(0)) task();
  t.equal(writer.blocked, true);
  t.equal(writer.write(Buffer.alloc(10)), false, 'the last turn’s are still there');
  writer.drained();
  for (const task of tasks.splice(0)) task();
  writer.drained();
  t.equal(writer.write(Buffer.alloc(10)), true, 'the client has read them');
});

/** A stream of whose octets the test says how many are still there. */
class Held extends HandStream {
  left = 0;
  resets = 0;

  override get buffered(): number {
    return this.left;
  }

  override reset(): void {
    this.resets += 1;
  }
}

test('a client that takes none of its last answer for minutes is ended, and one that takes some is not', async (t) => {
  const clock = new FakeClock();
  const stream = new Held(1);
  const deps = {
    expiry: new Expiry(clock),
    buffers: new BufferPool(4096, 4),
    defer: (task: () => void) => void setImmediate(task),
  };
  const onRequest = (message: ServerMessage): void =>
    message.respond({ status: 200, headers: new Headers([['content-length', '0']]) }, true);
  void new H1Server(stream, deps, onRequest, () => undefined);
  stream.handler.onData(Buffer.from('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n'));
  for (stream.left = 1000; stream.left > 997; stream.left -= 1) clock.advance(250_000);
  t.equal(stream.resets, 0, 'an octet in four minutes will do');
  clock.advance(290_000);
  t.equal(stream.resets, 0);
  clock.advance(20_000);
  t.equal(stream.resets, 1);
});
