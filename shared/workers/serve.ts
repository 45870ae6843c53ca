// The life of a data worker's thread once it has its code.
import { MeshError } from '../errors.ts';
import { keepCompiled } from '../lifecycle/compile-cache.ts';
import { releaseWhenQuiet, threadCpu } from '../lifecycle/quiet.ts';

/** Until it exits; it is disposed then. */
export function serveThread(thread: Disposable): void {
  process.once('exit', () => thread[Symbol.dispose]());
  const onError = (error: unknown): void => process.emitWarning(MeshError.from(error));
  // Before the main thread does, which then gives back what both have freed.
  releaseWhenQuiet({ cpu: threadCpu, looks: 2, settled: keepCompiled, onError });
}
