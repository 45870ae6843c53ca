import fc from 'fast-check';
import t from 'tap';
import { IdTable, nextId } from '#shared/collections/id-table.ts';

t.test('holds what a Set would, also members of the same id', async () => {
  const step = fc.tuple(fc.constantFrom('add', 'delete', 'again'), fc.nat(60), fc.constantFrom(1, 2, 7, 1 << 20));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 500 }), (steps) => {
      const table = new IdTable<{ readonly id: number }>();
      const expected = new Set<{ readonly id: number }>();
      let next = 0;
      for (const [what, which, stride] of steps) {
        const known = Array.from(expected)[which];
        if (what === 'add') {
          const member = { id: known && which % 5 === 0 ? known.id : (next += stride) };
          table.add(member);
          expected.add(member);
        } else if (what === 'again' && known) table.add(known);
        else if (known) {
          if (!table.delete(known)) throw new Error(`${known.id} was a member`);
          if (table.delete(known)) throw new Error(`${known.id} was deleted before`);
          expected.delete(known);
        }
        if (table.size !== expected.size) throw new Error(`${table.size} instead of ${expected.size}`);
        for (const member of expected) {
          if (!table.has(member)) throw new Error(`lost ${member.id}`);
          if (table.get(member.id)?.id !== member.id) throw new Error(`nobody has the id ${member.id}`);
        }
        if (table.has({ id: 1 }) || table.get(next + 1)) throw new Error('what was never there');
      }
      if (!new Set(table.all()).isSubsetOf(expected) || table.all().length !== expected.size)
        throw new Error('others than expected');
    }),
  );
});

t.test('takes what comes and goes without end, and gives its room back', async (t) => {
  const table = new IdTable<{ readonly id: number }>();
  const stays = Array.from({ length: 20 }, () => ({ id: nextId() }));
  for (const member of stays) table.add(member);
  for (let round = 0; round < 200; round++) {
    const many = Array.from({ length: round % 10 === 0 ? 5000 : 10 }, () => ({ id: nextId() }));
    for (const member of many) table.add(member);
    for (const member of many) table.delete(member);
  }
  t.equal(table.size, stays.length);
  t.ok(stays.every((member) => table.has(member)));
});
