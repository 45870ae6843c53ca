// Any order of writes, pauses, ends and resets on both ends of a stream: the rules of the seam hold, and without a reset no byte is lost.
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { Test } from 'tap';
import { PAIRS, withPair, type ReactorFactory } from './pairs.ts';
import type { Recorder } from './recorder.ts';

type Side = 'client' | 'server';
type Step = { side: Side; act: 'write'; size: number } | { side: Side; act: 'pause' | 'resume' | 'end' | 'reset' | 'breathe' };

const side = fc.constantFrom<Side>('client', 'server');
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ side, act: fc.constant('write' as const), size: fc.integer({ min: 1, max: 300_000 }) }) },
  { weight: 4, arbitrary: fc.record({ side, act: fc.constantFrom('pause' as const, 'resume' as const, 'breathe' as const) }) },
  { weight: 1, arbitrary: fc.record({ side, act: fc.constantFrom('end' as const, 'reset' as const) }) },
);
/** Every chunk is a part of this, at the offset that its sender has reached. */
const PATTERN = Buffer.from(Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 31 + (i >> 8)) & 0xff));

export function randomSuite(t: Test, create: ReactorFactory): void {
  for (const [form, open] of Object.entries(PAIRS))
    t.test(`${form}: any order of calls`, async (t) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
          await withPair(t, create, open, (pair) => play(pair, steps));
        }),
        { numRuns: 40 },
      );
    });
}

async function play(pair: Record<Side, Recorder>, steps: readonly Step[]): Promise<void> {
  const written = { client: 0, server: 0 };
  const over = { client: false, server: false };
  for (const name of ['client', 'server'] as const) {
    const recorder = pair[name];
    const sender = name === 'client' ? 'server' : 'client';
    recorder.onChunk = (chunk) => {
      const at = recorder.bytes - chunk.length;
      for (let i = 0; i < chunk.length; i += 997)
        if (chunk[i] !== PATTERN[(at + i) % PATTERN.length]) throw new Error(`byte ${at + i} from the ${sender} is wrong`);
    };
    recorder.start();
  }
  let reset = false;
  for (const { side: name, ...rest } of steps) {
    const recorder = pair[name];
    if (rest.act === 'breathe') await sleep(1);
    else if (rest.act === 'write') {
      if (over[name]) continue;
      const at = written[name] % PATTERN.length;
      const chunk = PATTERN.subarray(at, at + rest.size);
      recorder.call((stream) => stream.write(chunk));
      written[name] += chunk.length;
    } else {
      over[name] ||= rest.act === 'end' || rest.act === 'reset';
      reset ||= rest.act === 'reset';
      recorder.call((stream) => stream[rest.act as 'end']());
    }
  }
  for (const recorder of [pair.client, pair.server]) {
    recorder.call((stream) => stream.resume());
    recorder.call((stream) => stream.end());
  }
  const reasons = await Promise.all([pair.client.closed, pair.server.closed]);
  if (reset) return;
  for (const reason of reasons) if (reason.kind !== 'ended') throw new Error(`closed by ${JSON.stringify(reason)}`);
  if (pair.server.bytes !== written.client || pair.client.bytes !== written.server)
    throw new Error(`${pair.server.bytes} of ${written.client} and ${pair.client.bytes} of ${written.server} bytes arrived`);
}
