// The pages that take CPU profiles and heap snapshots of a running process, thread by thread.
import { MeshError } from '../errors.ts';
import type { AdminRequest, AdminResponse, AdminRoute } from './admin-server.ts';
import type { ProfileSource } from './profile-source.ts';
import { thisThread } from './profile-source.ts';

const MAX_SECONDS = 300;
const MAX_FREQUENCY = 1000;

/**
 * GET /debug/pprof/profile?seconds=N&frequency=HZ (1 to 300, default 10; 1 to 1000, default 100) and /debug/pprof/heap; one at a time.
 * `worker=N` takes those of a data worker; `worker` finds it, undefined when there is none of the number.
 */
export function profileRoutes(worker: (index: number) => ProfileSource | undefined = () => undefined): AdminRoute[] {
  let busy = false;
  const alone = async (work: () => Promise<AdminResponse>): Promise<AdminResponse> => {
    if (busy) throw new MeshError('limit_reached', 'a profile is being taken already; try again when it is done');
    busy = true;
    try {
      return await work();
    } finally {
      busy = false;
    }
  };
  const sourceOf = (request: AdminRequest): ProfileSource => {
    const text = request.url.searchParams.get('worker');
    if (text === null) return thisThread;
    const found = /^\d{1,4}$/u.test(text) ? worker(Number(text)) : undefined;
    if (!found) throw new MeshError('not_found', `worker="${text}": there is no such data worker; they are counted from 0`);
    return found;
  };
  return [
    {
      path: '/debug/pprof/profile',
      summary: 'CPU profile of the main thread (V8 .cpuprofile), or of a data worker; ?seconds=10&frequency=100&worker=0',
      handle: (request) => {
        const seconds = readNumber(request, 'seconds', 10, MAX_SECONDS);
        const frequency = readNumber(request, 'frequency', 100, MAX_FREQUENCY);
        const source = sourceOf(request);
        return alone(async () => download('cpu.cpuprofile', await source.cpu(seconds, frequency)));
      },
    },
    {
      path: '/debug/pprof/heap',
      summary: 'heap snapshot (V8 .heapsnapshot) of the main thread, or of a data worker; ?worker=0',
      handle: (request) => {
        const source = sourceOf(request);
        return alone(async () => download('heap.heapsnapshot', await source.heap()));
      },
    },
  ];
}

function readNumber({ url }: AdminRequest, name: string, fallback: number, most: number): number {
  const text = url.searchParams.get(name) ?? String(fallback);
  const value = Number(text);
  if (!/^\d+$/u.test(text) || value < 1 || value > most)
    throw new MeshError('bad_request', `${name}="${text}" is not a whole number from 1 to ${most}`);
  return value;
}

function download(name: string, body: string): AdminResponse {
  return { type: 'application/json', headers: { 'content-disposition': `attachment; filename="${name}"` }, body };
}
