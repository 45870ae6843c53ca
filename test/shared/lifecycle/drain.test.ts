import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { Drain } from '#shared/lifecycle/drain.ts';

t.test('waits for every token, then is drained without force', async (t) => {
  const drain = new Drain(new FakeClock());
  const one = drain.hold();
  const two = drain.hold();
  t.equal(drain.draining.aborted, false);
  const outcome = drain.start(5000);
  t.equal(drain.draining.aborted, true);
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  t.equal(drain.holds, 1, 'disposing twice counts once');
  two[Symbol.dispose]();
  t.equal(await outcome, 'drained');
  t.equal(drain.force.aborted, false);
});

t.test('forces at the deadline', async (t) => {
  const clock = new FakeClock();
  const drain = new Drain(clock);
  using _token = drain.hold();
  const outcome = drain.start(5000);
  clock.advance(4999);
  t.equal(drain.force.aborted, false);
  clock.advance(1);
  t.equal(drain.force.aborted, true);
  t.equal(await outcome, 'forced');
});

t.test('nothing held: drained at once; a token of a drain that ended changes nothing', async (t) => {
  const drain = new Drain(new FakeClock());
  t.equal(await drain.start(5000), 'drained');
  drain.hold()[Symbol.dispose]();
  t.equal(await drain.start(1), 'drained', 'later calls share the first outcome');
});

t.test('no patience: cut at once, also when a patient drain is under way', async (t) => {
  const drain = new Drain(new FakeClock());
  using _token = drain.hold();
  const patient = drain.start(60_000);
  t.equal(await drain.start(0), 'forced');
  t.equal(await patient, 'forced');
});

t.test('a thousand connections may listen without a warning', async (t) => {
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  process.on('warning', note);
  t.teardown(() => process.off('warning', note));
  const drain = new Drain(new FakeClock());
  let told = 0;
  for (let i = 0; i < 1000; i += 1) drain.draining.addEventListener('abort', () => (told += 1));
  await drain.start(0);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(told, 1000);
  t.same(warnings, []);
});
