// The measurement of triggers, for a moment: each way serves the same, and does what it is meant to do.
import t from 'tap';
import { type Cost, serve, TRIGGERS, type Trigger } from '../../bench/micro/triggering.ts';

t.setTimeout(60_000);

t.test('messages: edge-triggered readers ask once more, unless a short read tells enough', async (t) => {
  const costs = new Map<Trigger, Cost>();
  for (const trigger of TRIGGERS) costs.set(trigger, await serve('messages', trigger, 0.3));
  for (const [trigger, { cpu, calls }] of costs)
    t.ok(cpu > 0.5 && cpu < 500 && calls > 2, `${trigger}: ${cpu} us, ${calls} calls`);
  const calls = (trigger: Trigger): number => costs.get(trigger)?.calls ?? 0;
  t.ok(calls('edge') > calls('edge, short') + 0.5, 'one call that brings nothing');
});

t.test('bulk arrives either way', async (t) => {
  for (const trigger of TRIGGERS) {
    const { cpu, calls } = await serve('bulk', trigger, 0.3);
    t.ok(cpu > 0.005 && cpu < 20 && calls > 1, `${trigger}: ${cpu} s/GB, ${calls} calls/MB`);
  }
});
