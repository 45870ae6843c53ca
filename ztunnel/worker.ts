// The entry of a data worker. An error that nobody caught ends the thread, not the process: its connections are closed on the way out,
// and the main thread starts another one.
import { parentPort, workerData } from 'node:worker_threads';
import { MeshError } from '#shared/errors.ts';
import { releaseWhenQuiet, threadCpu } from '#shared/lifecycle/quiet.ts';
import type { WorkerStart } from './workers/protocol.ts';
import { WorkerThread } from './workers/thread.ts';

if (!parentPort) throw new MeshError('internal', 'worker.ts is started by the ztunnel as a thread, not as a program');
const thread = new WorkerThread(workerData as WorkerStart, parentPort, () => process.exit(0));
process.once('exit', () => thread[Symbol.dispose]());
// Before the main thread does, which then gives back what both have freed.
releaseWhenQuiet({ cpu: threadCpu, looks: 2, onError: (error) => process.emitWarning(MeshError.from(error)) });
