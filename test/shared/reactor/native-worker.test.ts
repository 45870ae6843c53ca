// The native backend in a worker thread: the same rules as on the main thread, beside Node's timers and messages, and a way to end it.
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker } from 'node:worker_threads';

const here = fileURLToPath(import.meta.url);

if (isMainThread) {
  // The report comes from the worker alone; this thread only carries its verdict.
  const worker = new Worker(here);
  worker.on('exit', (code) => {
    process.exitCode = code;
  });
} else {
  const { default: t } = await import('tap');
  const { createReactor } = await import('#shared/reactor/create.ts');
  const { socketSuite } = await import('./suite/sockets.ts');
  const { streamSuite } = await import('./suite/streams.ts');
  const { randomSuite } = await import('./suite/random.ts');
  const { netnsSuite } = await import('./suite/netns.ts');
  const { tlsSuite } = await import('./suite/tls.ts');
  const { threadSuite } = await import('./suite/threads.ts');
  const create = () => createReactor({ backend: 'native' });
  t.test('streams', async (t) => streamSuite(t, create));
  t.test('any order', async (t) => randomSuite(t, create));
  t.test('sockets', async (t) => socketSuite(t, create));
  t.test('network namespaces', async (t) => netnsSuite(t, create));
  t.test('handshakes', async (t) => tlsSuite(t, create));
  t.test('threads', async (t) => threadSuite(t, create));
}
