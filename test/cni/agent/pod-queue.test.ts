import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { PodQueue } from '../../../cni/agent/pod-queue.ts';
import { FakeClock } from '../../../shared/clock.ts';

function aQueue(concurrency = 4): {
  queue: PodQueue;
  clock: FakeClock;
  runs: string[];
  retries: number[];
  gate: Map<string, Promise<void>>;
} {
  const clock = new FakeClock();
  const runs: string[] = [];
  const retries: number[] = [];
  const gate = new Map<string, Promise<void>>();
  const queue = new PodQueue({
    reconcile: async (uid) => {
      runs.push(uid);
      await gate.get(uid);
    },
    onFailure: (_uid, _error, retryIn) => retries.push(retryIn),
    clock,
    concurrency,
  });
  return { queue, clock, runs, retries, gate };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await setImmediate();
}

t.test('one at a time for each pod; asking twice before it begins is asking once', async (t) => {
  const { queue, runs, gate } = aQueue();
  const first = Promise.withResolvers<void>();
  gate.set('a', first.promise);
  queue.add('a');
  await settle();
  queue.add('a');
  queue.add('a');
  queue.add('b');
  const alone = queue.exclusive('a', async () => void runs.push('exclusive'));
  await settle();
  t.same(runs, ['a', 'b'], 'another pod is not held up');
  first.resolve();
  await alone;
  t.same(runs, ['a', 'b', 'a', 'exclusive']);
});

t.test('no more at once than allowed', async (t) => {
  const { queue, runs, gate } = aQueue(2);
  const block = Promise.withResolvers<void>();
  for (const uid of ['a', 'b', 'c']) {
    gate.set(uid, block.promise);
    queue.add(uid);
  }
  await settle();
  t.same(runs, ['a', 'b']);
  block.resolve();
  await settle();
  t.same(runs, ['a', 'b', 'c']);
});

t.test('failures come again, ever later, at once when told so', async (t) => {
  const { queue, clock, runs, retries, gate } = aQueue();
  const fail = (): void => {
    const failure = Promise.reject(new Error('no'));
    failure.catch(() => undefined);
    gate.set('a', failure);
  };
  fail();
  queue.add('a');
  await settle();
  for (let round = 0; round < 10; round++) {
    clock.advance((retries.at(-1) ?? 0) + 1);
    await settle();
  }
  t.equal(runs.length, 11);
  t.ok((retries[0] ?? 0) < 400 && (retries.at(-1) ?? 0) > 10_000 && Math.max(...retries) <= 18_000, retries.join(' '));
  gate.delete('a');
  queue.retryNow();
  await settle();
  t.equal(runs.length, 12);
  clock.advance(60_000);
  await settle();
  t.equal(runs.length, 12, 'after a success there is nothing to repeat');
});

t.test('close: what runs ends, nothing more begins', async (t) => {
  const { queue, clock, runs, gate } = aQueue(1);
  const block = Promise.withResolvers<void>();
  gate.set('a', block.promise);
  queue.add('a');
  queue.add('b');
  queue.later('c', 10);
  await settle();
  const closed = queue.close();
  block.resolve();
  await closed;
  clock.advance(100);
  queue.add('d');
  await settle();
  t.same(runs, ['a']);
});
