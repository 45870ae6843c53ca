// What a TLS connection that is silent holds: `held.ts` prints {perEndpoint (KB of anonymous memory)}. Run with --expose-gc.
import { setTimeout as sleep } from 'node:timers/promises';
import { readMemory } from '../measure/memory.ts';
import type { Pair } from './pairs.ts';
import { TlsPairs } from './pairs.ts';

/** The first ones compile code; they stay open, so that the others find no room that was given back. */
const FIRST = 100;
const PAIRS = 500;

using pairs = await TlsPairs.open();
const open: Pair[] = [];
await openMore(FIRST);
const before = await settled();
await openMore(PAIRS);
const perEndpoint = ((await settled()) - before) / (2 * PAIRS) / 1000;
process.stdout.write(`${JSON.stringify({ perEndpoint, open: open.length })}\n`);
process.exit(0);

/** Each has carried a message both ways, so that it has had the buffers of a connection in use. */
async function openMore(count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const pair = await pairs.next();
    await echo(pair);
    open.push(pair);
  }
}

async function echo({ client, server }: Pair): Promise<void> {
  const answered = Promise.withResolvers<void>();
  const quiet = { onEnd: () => undefined, onDrain: () => undefined, onClose: () => undefined };
  server.start({ ...quiet, onData: (chunk) => void server.write(chunk) });
  client.start({ ...quiet, onData: () => answered.resolve() });
  client.write(Buffer.from('a message of both ends'));
  await answered.promise;
}

/** Bytes, after garbage is collected. */
async function settled(): Promise<number> {
  for (let round = 0; round < 3; round += 1) {
    await globalThis.gc?.({ type: 'major', flavor: 'last-resort', execution: 'async' });
    await sleep(100);
  }
  return (await readMemory(process.pid)).anonymous;
}
