// The life of a data worker's thread once it has its code.
import type { MessagePort } from 'node:worker_threads';
import { MeshError } from '#shared/errors.ts';
import { keepCompiled } from '#shared/lifecycle/compile-cache.ts';
import { releaseWhenQuiet, threadCpu } from '#shared/lifecycle/quiet.ts';
import type { WorkerStart } from './protocol.ts';
import { WorkerThread } from './thread.ts';

/** Until it is told to exit. */
export function serve(start: WorkerStart, port: MessagePort): void {
  const thread = new WorkerThread(start, port, () => process.exit(0));
  process.once('exit', () => thread[Symbol.dispose]());
  const onError = (error: unknown): void => process.emitWarning(MeshError.from(error));
  // Before the main thread does, which then gives back what both have freed.
  releaseWhenQuiet({ cpu: threadCpu, looks: 2, settled: keepCompiled, onError });
}
