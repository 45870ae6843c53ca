// CPU profiles and heap snapshots of a running process, in the forms that Chrome's developer tools and speedscope open.
import { Session } from 'node:inspector/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { MeshError } from '../errors.ts';
import type { AdminRequest, AdminResponse, AdminRoute } from './admin-server.ts';

const MAX_SECONDS = 300;

/** GET /debug/pprof/profile?seconds=N (1 to 300, default 10) and /debug/pprof/heap; one at a time. */
export function profileRoutes(): AdminRoute[] {
  let busy = false;
  const alone = async (work: (session: Session) => Promise<AdminResponse>): Promise<AdminResponse> => {
    if (busy) throw new MeshError('limit_reached', 'a profile is being taken already; try again when it is done');
    busy = true;
    const session = new Session();
    session.connect();
    try {
      return await work(session);
    } finally {
      session.disconnect();
      busy = false;
    }
  };
  return [
    {
      path: '/debug/pprof/profile',
      summary: 'CPU profile of the main thread (V8 .cpuprofile); ?seconds=10',
      handle: (request) => {
        const seconds = readSeconds(request);
        return alone((session) => cpuProfile(session, seconds));
      },
    },
    { path: '/debug/pprof/heap', summary: 'heap snapshot (V8 .heapsnapshot)', handle: () => alone(heapSnapshot) },
  ];
}

function readSeconds({ url }: AdminRequest): number {
  const text = url.searchParams.get('seconds') ?? '10';
  const seconds = Number(text);
  if (!/^\d+$/u.test(text) || seconds < 1 || seconds > MAX_SECONDS)
    throw new MeshError('bad_request', `seconds="${text}" is not a whole number from 1 to ${MAX_SECONDS}`);
  return seconds;
}

async function cpuProfile(session: Session, seconds: number): Promise<AdminResponse> {
  await session.post('Profiler.enable');
  await session.post('Profiler.start');
  await sleep(seconds * 1000);
  const { profile } = await session.post('Profiler.stop');
  return download('cpu.cpuprofile', JSON.stringify(profile));
}

async function heapSnapshot(session: Session): Promise<AdminResponse> {
  const chunks: string[] = [];
  session.on('HeapProfiler.addHeapSnapshotChunk', ({ params }) => chunks.push(params.chunk));
  await session.post('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
  return download('heap.heapsnapshot', chunks.join(''));
}

function download(name: string, body: string): AdminResponse {
  return { type: 'application/json', headers: { 'content-disposition': `attachment; filename="${name}"` }, body };
}
