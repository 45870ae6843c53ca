// What a connection leaves in the memory of a ztunnel that has served many: young garbage, and code that is compiled for the next one.
import { once } from 'node:events';
import t from 'tap';
import type { Test } from 'tap';
import { eventually } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { API, CART, echoes, takeoverLab, takeoverNode } from '../harness/takeover-lab.ts';

t.setTimeout(240_000);

/** Until the optimising compiler has seen them, and then as many again. */
const WARM_UP = 6000;
const COUNT = 3000;
const LANES = 16;
/** Kilobytes: what a connection leaves without the table in place of a Map and a Set is 3 to 4. */
const LEFT = 0.5;
/** Functions whose code goes with the last connection: without specimens more than a hundred. */
const FORGOTTEN = 25;

async function connections(t: Test, client: TestPod, to: typeof CART, count: number): Promise<void> {
  let left = count;
  let failed = 0;
  const lane = async (): Promise<void> => {
    while (left-- > 0) {
      const socket = await client.connect(to);
      const closed = once(socket, 'close');
      if (!(await echoes(socket))) failed += 1;
      socket.end();
      await closed;
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  t.equal(failed, 0);
}

/** Small collections as V8 traces them: the isolate, and the megabytes after it. */
function smallCollections(log: string): { isolate: string; after: number }[] {
  const lines = log.matchAll(/\[\d+:(0x\w+)\] .* Scavenge [\d.]+ \([\d.]+\) -> ([\d.]+)/gu);
  return Array.from(lines, ([, isolate = '', after]) => ({ isolate, after: Number(after) }));
}

/** The isolate of the data worker: it has most of the garbage. */
function workerOf(log: string): string {
  const counts = Map.groupBy(smallCollections(log), ({ isolate }) => isolate);
  return Array.from(counts).toSorted(([, a], [, b]) => b.length - a.length)[0]?.[0] ?? '';
}

t.test('garbage of connections stays young, and their code outlives a quiet time', async (t) => {
  const lab = await takeoverLab(t);
  const flags = ['--expose-gc', '--trace-gc', '--trace-deopt'];
  const near = await takeoverNode(t, lab, 'node-1', [
    { name: 'web', ip: '10.1.0.1' },
    { name: 'cart', ip: CART.ip },
  ]);
  const far = await takeoverNode(t, lab, 'node-2', [{ name: 'api', ip: API.ip }]);
  const [client, cart] = near.pods as [TestPod, TestPod];
  for (const pod of [cart, far.pods[0] as TestPod]) await pod.serve((socket) => socket.pipe(socket), CART.port);
  const ztunnels = [near, far].map(({ start }) => start([], { ZTUNNEL_WORKER_THREADS: '1', RUST_LOG: 'error' }, flags));
  await Promise.all([near.ready(), far.ready()]);
  for (const to of [API, CART]) await connections(t, client, to, WARM_UP / 2);
  await connections(t, client, API, WARM_UP / 2);

  const workers = ztunnels.map(({ log }) => workerOf(log()));
  const before = ztunnels.map(({ log }) => log().length);
  const since = () => ztunnels.map(({ log }, index) => log().slice(before[index]));
  const released = (log: string, worker = ''): boolean =>
    log.split('\n').some((line) => line.includes(`:${worker}]`) && line.includes('Mark-Compact (reduce)'));
  await eventually('a quiet time', () => (since().every((log, index) => released(log, workers[index])) ? true : undefined));
  for (const [index, log] of since().entries()) {
    const forgotten = log.split('embedded weak objects cleared').length - 1;
    t.ok(forgotten <= FORGOTTEN, `node ${index + 1}: code of ${forgotten} functions was thrown away`);
  }

  for (const to of [CART, API]) await connections(t, client, to, COUNT);
  for (const [index, log] of since().entries()) {
    const small = smallCollections(log).filter(({ isolate }) => isolate === workers[index]);
    t.ok(small.length > 3, `node ${index + 1}: ${small.length} small collections`);
    // The first ones find what was made for the first connections, and stays.
    const left = ((small.at(-1)?.after ?? 0) - (small[2]?.after ?? 0)) * 1000;
    const perConnection = left / (index === 0 ? 2 * COUNT : COUNT);
    t.ok(perConnection < LEFT, `node ${index + 1}: ${perConnection.toFixed(2)} KB of a connection are left`);
  }
});
