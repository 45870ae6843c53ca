// The operations of the small benchmark of state and metrics, each once: they do what they are named for, or throw.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { measure, OPERATIONS } from '../../bench/micro/state.ts';

t.setTimeout(120_000);

t.test('every operation can be made ready and done', async (t) => {
  for (const [name, ready] of Object.entries(OPERATIONS)) {
    await ready()(0);
    t.pass(name);
  }
});

t.test('a cost is the CPU of one operation', async (t) => {
  const turns: number[] = [];
  const used = (): number => {
    const { user, system } = process.threadCpuUsage();
    return user + system;
  };
  const busy = async (turn: number): Promise<void> => {
    turns.push(turn);
    const before = used();
    while (used() - before < 2000);
    await sleep(5);
  };
  const cost = await measure(busy, 10);
  t.ok(cost >= 2000 && cost < 6000, `${cost} us`);
  t.strictSame(turns, [...turns.keys()], 'one after the other');
});
