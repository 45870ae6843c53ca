// A head that comes an octet at a time takes no more memory than the head.
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'tap';
import { RequestReader } from '#shared/http1/reader.ts';
import { DEFAULT_LIMITS } from '#shared/http1/strictness.ts';

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

function memory(): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Octets beyond `before`, once they are no more than `most`. Buffers that a collection finds unused are freed by another thread, when it has time. */
async function memoryBeyond(before: number, most: number): Promise<number> {
  for (let tries = 0; ; tries += 1) {
    const beyond = memory() - before;
    if (beyond <= most || tries === 50) return beyond;
    await sleep(20);
  }
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
  const most = 3 * DEFAULT_LIMITS.headSize;
  const each = (await memoryBeyond(before, most * CONNECTIONS)) / CONNECTIONS;
  t.ok(each <= most, `${Math.round(each)} octets for each`);
  for (const reader of readers) reader.push(Buffer.from('\r\n\r\n'));
  t.equal(paths.length, CONNECTIONS);
  t.equal(paths[0], `/ ${DEFAULT_LIMITS.headSize - 100}`, 'and is read as it was sent');
  const few = DEFAULT_LIMITS.headSize / 2;
  const after = (await memoryBeyond(before, few * CONNECTIONS)) / CONNECTIONS;
  t.ok(after <= few, `${Math.round(after)} octets for each behind the head`);
  t.ok(readers.every(({ idle }) => idle));
});
