import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { MemoryBudget } from '#shared/lifecycle/memory-budget.ts';
import { OwnMemory } from '#shared/os/own-memory.ts';

const MiB = 1 << 20;

function watched(used: number) {
  const clock = new FakeClock();
  const seen = { used, looks: 0, collections: [] as boolean[], changes: [] as [boolean, number][] };
  const budget = new MemoryBudget({
    budget: 1000 * MiB,
    used: () => {
      seen.looks++;
      return seen.used * MiB;
    },
    clock,
    collect: (short) => seen.collections.push(short),
    onChange: (short, now) => seen.changes.push([short, now / MiB]),
  });
  return { clock, seen, budget };
}

t.test('short at the budget, eased well below it, and nothing in between', async (t) => {
  const { clock, seen, budget } = watched(100);
  t.same(seen.changes, []);
  for (const now of [999, 1000, 1200, 960, 949, 960, 999]) {
    seen.used = now;
    clock.advance(1000);
  }
  t.same(seen.changes, [
    [true, 1000],
    [false, 949],
  ]);
  budget[Symbol.dispose]();
  seen.used = 2000;
  clock.advance(10_000);
  t.equal(seen.changes.length, 2, 'nobody looks any more');
});

t.test('garbage is collected before the budget is used up, not all the time', async (t) => {
  const { clock, seen } = watched(899);
  t.equal(seen.collections.length, 0);
  seen.used = 901;
  clock.advance(1000);
  t.same(seen.collections, [false]);
  clock.advance(3000);
  t.same(seen.collections, [false]);
  clock.advance(3000);
  t.same(seen.collections, [false, false]);
  seen.used = 1001;
  clock.advance(3000);
  const urgent = seen.collections.slice(2);
  t.ok(urgent.length >= 2 && urgent.length <= 3 && urgent.every(Boolean), 'all that can go, once a second');
});

t.test('the less room is left, the sooner is the next look', async (t) => {
  const looks = (used: number): number => {
    const { clock, seen } = watched(used);
    const before = seen.looks;
    clock.advance(10_000);
    return seen.looks - before;
  };
  t.equal(looks(100), 10, 'once a second');
  t.ok(looks(950) > 40, 'often');
  t.equal(looks(1500), 400, 'every 25 ms');
});

t.test('the memory of this process: what it writes counts', async (t) => {
  using memory = new OwnMemory();
  const before = memory.anonymous();
  const block = Buffer.alloc(64 * MiB, 1);
  const grown = memory.anonymous() - before;
  t.ok(grown > 60 * MiB && grown < 100 * MiB, `${Math.round(grown / MiB)} MiB more with ${block.length / MiB}`);
});
