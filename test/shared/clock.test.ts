import t from 'tap';
import { Backoff } from '#shared/backoff.ts';
import { FakeClock, systemClock } from '#shared/clock.ts';

t.test('the fake clock runs timers in order of their time, also those set by a timer', async (t) => {
  const clock = new FakeClock();
  const seen: string[] = [];
  clock.after(20, () => seen.push(`b@${clock.now()}`));
  clock.after(10, () => {
    seen.push(`a@${clock.now()}`);
    clock.after(5, () => seen.push(`c@${clock.now()}`));
  });
  clock.after(30, () => seen.push('late')).cancel();
  clock.advance(100);
  t.same(seen, ['a@10', 'c@15', 'b@20']);
  t.equal(clock.monotonic(), 100);
});

t.test('the system clock calls back after the delay', async (t) => {
  const start = systemClock.monotonic();
  const keepAlive = setInterval(() => {}, 5);
  await new Promise<void>((resolve) => systemClock.after(10, resolve));
  clearInterval(keepAlive);
  t.ok(systemClock.monotonic() - start >= 9);
});

t.test('back-off doubles to its maximum, with jitter around it, and starts again after a success', async (t) => {
  const backoff = new Backoff({ initial: 100, max: 350, jitter: 0.2, random: () => 0.5 });
  t.same([backoff.next(), backoff.next(), backoff.next(), backoff.next()], [100, 200, 350, 350]);
  backoff.reset();
  t.equal(backoff.next(), 100);
  const high = new Backoff({ initial: 100, max: 350, jitter: 0.2, random: () => 1 });
  t.equal(high.next(), 120);
});
