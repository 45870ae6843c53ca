import t from 'tap';
import { nextId } from '#shared/collections/id-table.ts';
import { FakeClock } from '#shared/clock.ts';
import { Deadlines } from '#shared/lifecycle/deadlines.ts';

function waits(clock: FakeClock, told: string[]) {
  const deadlines = new Deadlines(clock, 100);
  return (name: string) => {
    const waiting = { id: nextId(), due: 0, onDeadline: () => void told.push(`${name} at ${clock.monotonic()}`) };
    deadlines.add(waiting);
    return () => deadlines.delete(waiting);
  };
}

t.test('each is told at its own time, in order', async (t) => {
  const [clock, told] = [new FakeClock(), [] as string[]];
  const wait = waits(clock, told);
  wait('first');
  clock.advance(30);
  wait('second');
  clock.advance(69);
  t.strictSame(told, []);
  clock.advance(1000);
  t.strictSame(told, ['first at 100', 'second at 130']);
  wait('third');
  clock.advance(100);
  t.equal(told.at(-1), 'third at 1199');
});

t.test('what came in time is not told, and later ones still are', async (t) => {
  const [clock, told] = [new FakeClock(), [] as string[]];
  const wait = waits(clock, told);
  const done = wait('first');
  clock.advance(50);
  wait('second');
  done();
  done();
  clock.advance(99);
  t.strictSame(told, []);
  clock.advance(1);
  t.strictSame(told, ['second at 150']);
});

t.test('what is added again while it waits is told at its first time, and keeps no other waiting', async (t) => {
  const [clock, told] = [new FakeClock(), [] as string[]];
  const deadlines = new Deadlines(clock, 100);
  const named = (name: string) => ({ id: nextId(), due: 0, onDeadline: () => void told.push(`${name} at ${clock.monotonic()}`) });
  const [first, second] = [named('first'), named('second')];
  deadlines.add(first);
  clock.advance(20);
  deadlines.add(second);
  clock.advance(50);
  deadlines.add(first);
  clock.advance(1000);
  t.strictSame(told, ['first at 100', 'second at 120']);
});
