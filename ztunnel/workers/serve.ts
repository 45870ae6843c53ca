// A data worker of the ztunnel, from its first message on.
import type { MessagePort } from 'node:worker_threads';
import { serveThread } from '#shared/workers/serve.ts';
import type { WorkerStart } from './protocol.ts';
import { WorkerThread } from './thread.ts';

/** Until it is told to exit. */
export function serve(start: WorkerStart, port: MessagePort): void {
  serveThread(new WorkerThread(start, port, () => process.exit(0)));
}
