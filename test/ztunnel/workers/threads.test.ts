// Threads that load their code before they have work.
import { once } from 'node:events';
import t from 'tap';
import { WorkerThreads } from '../../../ztunnel/workers/threads.ts';

t.test('those that were made ahead are taken once, then new ones', async (t) => {
  const threads = new WorkerThreads();
  threads.prepare(1);
  const taken = [threads.take(0), threads.take(0), threads.take(1)];
  t.equal(new Set(taken.map(({ threadId }) => threadId)).size, 3);
  await Promise.all(taken.map((worker) => once(worker, 'online')));
  t.same(await Promise.all(taken.map((worker) => worker.terminate())), [1, 1, 1], 'they wait for their start until then');
});
