import t from 'tap';
import { processCpu, QuietWatch, threadCpu } from '#shared/lifecycle/quiet.ts';

t.test('once after each busy time, when the quiet has lasted', (t) => {
  const watch = new QuietWatch(2, 1000);
  t.equal(watch.look(2000), false);
  t.equal(watch.look(3000), true, 'the start was busy');
  t.equal(watch.look(4000), false);
  t.equal(watch.look(5000), false, 'not again');
  t.equal(watch.look(1_000_000), false);
  t.equal(watch.look(1_001_000), false);
  t.equal(watch.look(2_000_000), false, 'busy again before it had lasted');
  t.equal(watch.look(2_000_100), false);
  t.equal(watch.look(2_000_200), true);
  watch.skip(2_100_000);
  t.equal(watch.look(2_100_100), false, 'its own work does not count');
  t.equal(watch.look(2_100_200), false);
  t.end();
});

t.test('CPU of a thread is part of that of the process', (t) => {
  t.ok(threadCpu() > 0);
  t.ok(threadCpu() <= processCpu());
  t.end();
});
