import { test } from 'tap';
import fc from 'fast-check';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { StreamTable } from '#shared/http2/streams.ts';

test('the table of streams holds what a Map would', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(40)), { maxLength: 400 }), (steps) => {
      const table = new StreamTable('client');
      const expected = new Map<number, Http2Stream>();
      for (const [opens, which] of steps) {
        if (opens) {
          const stream = { id: table.newId() } as Http2Stream;
          table.add(stream);
          expected.set(stream.id, stream);
        } else {
          const stream = [...expected.values()][which];
          if (!stream) continue;
          table.remove(stream);
          // Twice does no harm.
          table.remove(stream);
          expected.delete(stream.id);
        }
        if (table.size !== expected.size) throw new Error(`${table.size} instead of ${expected.size}`);
        for (const [id, stream] of expected) if (table.get(id) !== stream) throw new Error(`lost ${id}`);
        if (table.get(2 * steps.length + 1) !== undefined) throw new Error('what was never there');
      }
      const ids = (streams: Iterable<Http2Stream>): number[] => [...streams].map(({ id }) => id).toSorted((a, b) => a - b);
      t.same(ids(table.all()), ids(expected.values()));
    }),
  );
});
