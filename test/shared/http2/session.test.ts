import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { header, type HeaderList } from '#shared/http2/headers.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { streamPair } from '../../harness/stream-pair.ts';

/** Reads a stream to its end. */
export function collect(stream: Http2Stream): Promise<{ body: Buffer; trailers: HeaderList | undefined; reason: CloseReason }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let trailers: HeaderList | undefined;
    stream.start({
      onData: (chunk) => void chunks.push(Buffer.from(chunk)),
      onTrailers: (list) => (trailers = list),
      onEnd: () => {},
      onDrain: () => {},
      onClose: (reason) => resolve({ body: Buffer.concat(chunks), trailers, reason }),
    });
  });
}

function response(stream: Http2Stream): Promise<HeaderList> {
  return new Promise((resolve, reject) => {
    stream.opener = { onResponse: resolve, onAbandoned: (reason) => reject(new Error(JSON.stringify(reason))) };
  });
}

const GET: HeaderList = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/x'],
  [':authority', 'a.example'],
];

for (const split of [Infinity, 1, 7]) {
  test(`request, body, trailers, split ${split}`, async (t) => {
    const [a, b] = streamPair({ split });
    const server = new Http2Session(b, {
      role: 'server',
      clock: systemClock,
      onStream: (stream) => {
        stream.respond(200, [['x-path', header(stream.headers, ':path') ?? '']]);
        collectRequest(stream).then(({ body, trailers }) => {
          stream.write(body);
          stream.endWith([['x-got', header(trailers ?? [], 'x-sent') ?? '']]);
        });
      },
    });
    const client = new Http2Session(a, { role: 'client', clock: systemClock });
    const stream = client.request([...GET.with(0, [':method', 'POST']), ['user-agent', 'test'.repeat(20)]]);
    const head = response(stream);
    stream.write(Buffer.from('hello '));
    stream.write(Buffer.from('world'));
    stream.endWith([['x-sent', 'tr']]);
    t.equal(header(await head, ':status'), '200');
    t.equal(header(await head, 'x-path'), '/x');
    const { body, trailers, reason } = await collect(stream);
    t.equal(body.toString(), 'hello world');
    t.same(trailers, [['x-got', 'tr']]);
    t.same(reason, { kind: 'ended' });
    t.equal(client.streams, 0);
    client.drain();
    server.drain();
  });
}

/** The request's body and trailers; resolves when they are complete. */
function collectRequest(stream: Http2Stream): Promise<{ body: Buffer; trailers: HeaderList | undefined }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let trailers: HeaderList | undefined;
    stream.start({
      onData: (chunk) => void chunks.push(Buffer.from(chunk)),
      onTrailers: (list) => (trailers = list),
      onEnd: () => resolve({ body: Buffer.concat(chunks), trailers }),
      onDrain: () => {},
      onClose: () => {},
    });
  });
}
