// Threads that load their code before they have work.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import t from 'tap';
import { WorkerThreads } from '#shared/workers/threads.ts';

t.test('those that were made ahead are taken once, then new ones', async (t) => {
  const threads = new WorkerThreads(new URL('../../../ztunnel/worker.ts', import.meta.url));
  threads.prepare(1);
  const taken = [threads.take(0), threads.take(0), threads.take(1)];
  t.equal(new Set(taken.map(({ threadId }) => threadId)).size, 3);
  await Promise.all(taken.map((worker) => once(worker, 'online')));
  t.same(await Promise.all(taken.map((worker) => worker.terminate())), [1, 1, 1], 'they wait for their start until then');
});

t.test('what was made ahead is kept as far as it is needed, and keeps no process alive', async (t) => {
  const threads = new WorkerThreads(new URL('../../../ztunnel/worker.ts', import.meta.url));
  threads.prepare(2);
  threads.prepare(1);
  const [first, second] = [threads.take(0), threads.take(1)];
  t.equal(second.threadId, first.threadId + 2, 'the second one was ended, and another one is made when it is wanted');
  const script = `import { WorkerThreads } from '#shared/workers/threads.ts'; new WorkerThreads(new URL('data:text/javascript,setInterval(()=>0,1000)')).prepare(1);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
  t.same(await once(child, 'exit'), [0, null]);
  await Promise.all([first.terminate(), second.terminate()]);
});

/** Makes some 500 MB of garbage, a little of which is in use at any time, and says how often it was collected. */
const GARBAGE = `
  import { PerformanceObserver } from 'node:perf_hooks';
  import { parentPort } from 'node:worker_threads';
  let count = 0;
  new PerformanceObserver((list) => (count += list.getEntries().length)).observe({ entryTypes: ['gc'] });
  let kept = [];
  for (let i = 0; i < 10_000_000; i++) {
    kept.push([i]);
    if (kept.length > 20_000) kept = [];
  }
  setTimeout(() => parentPort.postMessage([count, kept.length]), 50);
`;

t.test(
  'the young generation of a thread is its own: a small one of the main thread does not make it collect at every turn',
  async (t) => {
    setFlagsFromString('--max-semi-space-size=1');
    t.teardown(() => setFlagsFromString('--max-semi-space-size=16'));
    const [[collections]] = (await once(
      new WorkerThreads(new URL(`data:text/javascript,${encodeURIComponent(GARBAGE)}`)).take(0),
      'message',
    )) as [[number]];
    t.ok(collections > 0 && collections < 120, `${collections} collections`);
  },
);
