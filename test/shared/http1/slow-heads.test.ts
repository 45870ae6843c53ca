// A head that comes an octet at a time takes no more memory than the head.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'tap';
import { RequestReader } from '#shared/http1/reader.ts';
import { DEFAULT_LIMITS } from '#shared/http1/strictness.ts';

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

/** Buffers that a collection finds unused are freed by another thread; the next collection waits for that. */
function memory(): number {
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const CONNECTIONS = 20;
const HEAD = `GET / HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(DEFAULT_LIMITS.headSize - 100)}`;

test('a head in pieces of one octet takes no more memory than the head', async (t) => {
  const before = memory();
  const paths: string[] = [];
  const readers: RequestReader[] = [];
  for (let at = 0; at < CONNECTIONS; at += 1) {
    const reader = new RequestReader({
      onHead: ({ target, headers }) => void paths.push(`${target} ${headers[1]?.[1].length}`),
      onBody: () => undefined,
      onEnd: () => undefined,
    });
    readers.push(reader);
    const piece = Buffer.alloc(1);
    for (let octet = 0; octet < HEAD.length; octet += 1) {
      piece[0] = HEAD.charCodeAt(octet);
      reader.push(piece);
    }
  }
  const each = (memory() - before) / CONNECTIONS;
  t.ok(each < 3 * DEFAULT_LIMITS.headSize, `${Math.round(each)} octets for each`);
  for (const reader of readers) reader.push(Buffer.from('\r\n\r\n'));
  t.equal(paths.length, CONNECTIONS);
  t.equal(paths[0], `/ ${DEFAULT_LIMITS.headSize - 100}`, 'and is read as it was sent');
  const after = (memory() - before) / CONNECTIONS;
  t.ok(after < DEFAULT_LIMITS.headSize / 2, `${Math.round(after)} octets for each behind the head`);
  t.ok(readers.every(({ idle }) => idle));
});
