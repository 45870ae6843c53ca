// The entry of a data worker. An error that nobody caught ends the thread, not the process: its connections are closed on the way out,
// and the main thread starts another one.
import { parentPort } from 'node:worker_threads';
import { MeshError } from '#shared/errors.ts';
import { serveThread } from '#shared/workers/serve.ts';
import type { WorkerStart } from './workers/protocol.ts';
import { WorkerThread } from './workers/thread.ts';

const port = parentPort;
if (!port) throw new MeshError('internal', 'worker.ts is started by the waypoint as a thread, not as a program');
// What was sent waits in the port until somebody listens, and the next message until this one was dealt with.
port.once('message', (start: WorkerStart) => serveThread(new WorkerThread(start, port, () => process.exit(0))));
