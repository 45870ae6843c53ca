// Mutated header blocks of one connection: each is decoded or refused by name, what is decoded keeps to the limit, and a decoder that has
// refused one is not used again, as its table may differ from the peer's.
import { test } from 'tap';
import { ConnectionFault } from '#shared/http2/frames.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { HpackDecoder } from '#shared/http2/hpack/decoder.ts';
import { HpackEncoder } from '#shared/http2/hpack/encoder.ts';
import { mutate, random } from '../harness/mutate.ts';

const LIMIT = 2000;

function someHeaders(below: (limit: number) => number): HeaderList {
  return Array.from(
    { length: below(12) },
    () => [`x-${below(20)}`, 'v'.repeat(below(below(8) === 0 ? 3000 : 30)) + String(below(5))] as const,
  );
}

test('mutated header blocks', (t) => {
  const seen = { same: 0, different: 0, oversized: 0, refused: 0 };
  for (let seed = 0; seed < 6000; seed++) {
    const below = random(seed);
    const [encoder, decoder] = [new HpackEncoder(), new HpackDecoder(4096, LIMIT)];
    for (let i = 0; i < 6; i++) {
      const list = someHeaders(below);
      if (below(6) === 0) encoder.setPeerLimit(below(5000));
      const block = encoder.encode(list);
      const sent = below(3) === 0 ? mutate(block, below) : block;
      try {
        const { headers, oversized } = decoder.decode(sent);
        const size = headers.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
        if (size > LIMIT) t.fail(`seed ${seed}: ${size} octets`);
        if (oversized) seen.oversized++;
        else if (JSON.stringify(headers) === JSON.stringify(list)) seen.same++;
        else seen.different++;
      } catch (error) {
        if (!(error instanceof ConnectionFault)) throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
        seen.refused++;
        break;
      }
    }
  }
  t.comment(JSON.stringify(seen));
  t.ok(
    Object.values(seen).every((count) => count > 100),
    'all of that happens',
  );
  t.end();
});
