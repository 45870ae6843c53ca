// The process of a ztunnel: environment in, signals, exit code. The rest is imported when compiled code can come from the cache.
import { extname } from 'node:path';
import { useCompileCache } from '#shared/lifecycle/compile-cache.ts';
import { keepGarbageYoung } from '#shared/lifecycle/young-garbage.ts';
import { WorkerThreads } from '#shared/workers/threads.ts';

// For workers too: it holds for threads that are made later.
keepGarbageYoung();
const folder = useCompileCache();
if (folder !== undefined) process.env['NODE_COMPILE_CACHE'] = folder;
// Beside this file, in the source as in a bundle.
const threads = new WorkerThreads(new URL(`worker${extname(import.meta.filename)}`, import.meta.url));
// Nearly always one is needed, and it has as much to load as this thread: configuration can come later.
threads.prepare(1);
const { runZtunnel } = await import('./process.ts');
await runZtunnel(process.env, process.argv.slice(2), threads);
