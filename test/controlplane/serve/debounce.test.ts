// Debounce and push order.
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { Debouncer } from '../../../controlplane/serve/debounce.ts';
import { PushQueue } from '../../../controlplane/serve/push-queue.ts';
import { inPushOrder, TYPE } from '../../../controlplane/serve/types.ts';
import { FakeClock } from '../../../shared/clock.ts';

t.test('waits for a pause, but not for ever', async (t) => {
  const clock = new FakeClock();
  let runs = 0;
  const debouncer = new Debouncer({ after: 100, max: 250 }, clock, () => (runs += 1));
  debouncer.trigger();
  clock.advance(99);
  t.equal(runs, 0);
  clock.advance(1);
  t.equal(runs, 1);
  for (let n = 0; n < 4; n++) {
    debouncer.trigger();
    clock.advance(62);
  }
  t.equal(runs, 1);
  debouncer.trigger();
  clock.advance(2);
  t.equal(runs, 2, 'after the longest time');
  clock.advance(1000);
  t.equal(runs, 2);
  debouncer.trigger();
  debouncer.cancel();
  clock.advance(1000);
  t.equal(runs, 2);
});

t.test('one push per turn, each target once', async (t) => {
  const queue = new PushQueue();
  const pushed: string[] = [];
  const target = (name: string): { push(): void } => ({ push: () => pushed.push(name) });
  const [a, b, c] = [target('a'), target('b'), target('c')];
  for (const each of [a, b, a, c]) queue.add(each);
  queue.remove(c);
  t.equal(queue.length, 2);
  t.same(pushed, [], 'never at once');
  await turn();
  t.same(pushed, ['a']);
  for (let n = 0; n < 3; n++) await turn();
  t.same(pushed, ['a', 'b']);
});

t.test('the order of types', async (t) => {
  const types = ['x', TYPE.address, TYPE.route, TYPE.authorization, TYPE.listener, TYPE.endpoints, TYPE.cluster];
  t.same(types.sort(inPushOrder), [
    TYPE.cluster,
    TYPE.endpoints,
    TYPE.listener,
    TYPE.route,
    TYPE.authorization,
    TYPE.address,
    'x',
  ]);
});
