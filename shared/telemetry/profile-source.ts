// CPU profiles and heap snapshots of the thread that asks, in the forms that Chrome's developer tools and speedscope open.
import type { Session } from 'node:inspector/promises';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProfileSource {
  /** JSON of a V8 .cpuprofile. `frequency`: samples per second. */
  cpu(seconds: number, frequency: number): Promise<string>;
  /** A V8 .heapsnapshot. The thread stands still meanwhile. */
  heap(): Promise<string>;
}

/** Of this thread. */
export const thisThread: ProfileSource = {
  cpu: (seconds, frequency) =>
    withSession(async (session) => {
      await session.post('Profiler.enable');
      await session.post('Profiler.setSamplingInterval', { interval: Math.round(1e6 / frequency) });
      await session.post('Profiler.start');
      await sleep(seconds * 1000);
      const { profile } = await session.post('Profiler.stop');
      return JSON.stringify(profile);
    }),
  heap: () =>
    withSession(async (session) => {
      const chunks: string[] = [];
      session.on('HeapProfiler.addHeapSnapshotChunk', ({ params }) => chunks.push(params.chunk));
      await session.post('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
      return chunks.join('');
    }),
};

async function withSession<T>(work: (session: Session) => Promise<T>): Promise<T> {
  // Rarely needed, and slow to load.
  const inspector = await import('node:inspector/promises');
  const session = new inspector.Session();
  session.connect();
  try {
    return await work(session);
  } finally {
    session.disconnect();
  }
}
