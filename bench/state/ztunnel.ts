// A ztunnel as it is started in production, that follows a control plane of a given size and serves no pods: what the mesh adds to it.
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MeshError } from '#shared/errors.ts';
import { nodeProgram } from '../../cli/lab/system.ts';
import type { Sample } from '../measured.ts';
import { readMemory } from '../measure/memory.ts';
import { median } from '../statistics.ts';
import { startProcess } from '../waypoint/processes.ts';
import type { Background } from '../waypoint/processes.ts';
import type { ChangeOrder, Told } from './control-plane.ts';
import type { MeshSize } from './mesh.ts';

export interface StateRun {
  readonly mesh: MeshSize;
  /** Changes of one workload. */
  readonly changes: number;
  /** The binary of another ztunnel, instead of ours. */
  readonly peer?: string | undefined;
  /** Memory is settled when it has not moved for so long, ms; default 12,000. */
  readonly settle?: number;
  readonly signal: AbortSignal;
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** Milliseconds. */
const SYNC_TIMEOUT = 60_000;
/** Memory that moves by this much moves; what never stands still is waited for so long, ms. */
const STILL = { bytes: 1 << 20, atMost: 60_000 };

/** MB settled and at the peak; ms until the mesh was taken, and until a change was (median). */
export async function measureState({ mesh, changes, peer, settle = 12_000, signal }: StateRun): Promise<Sample> {
  await using cleanup = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'culvert-bench-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const plane = cleanup.use(await startControlPlane(mesh));
  const env = await ztunnelEnv(plane, folder);
  const command = peer === undefined ? nodeProgram(ROOT, 'ztunnel') : [peer];
  const whole = plane.heard('whole');
  const ztunnel = cleanup.use(
    startProcess('ztunnel', folder, ['env', ...Object.entries(env).map(([name, value]) => `${name}=${value}`), ...command]),
  );
  const sync = await orEnded(whole, ztunnel, signal);
  const workers = peer === undefined ? await askWorkers(env['STATS_PORT'] ?? '') : 0;
  const settled = await settledMemory(ztunnel.pid, settle, signal);
  // The kernel counts both in batches of its own: what was just read may be above what it calls the peak.
  const peak = Math.max(settled, await peakOf(ztunnel.pid));
  const times: number[] = [];
  for (let change = 1; change <= changes; change++) {
    const acknowledged = plane.heard(`change-${change}`);
    plane.change({ index: (change * 7919) % mesh.workloads, capacity: 1 + change });
    times.push((await orEnded(acknowledged, ztunnel, signal)).ms);
    await sleep(20);
  }
  const middle = median(times);
  return {
    settled: settled / 1e6,
    peak: peak / 1e6,
    sync: sync.ms + workers,
    message: sync.bytes / 1e6,
    ...(middle === undefined ? {} : { change: middle }),
  };
}

/** ms until every worker has answered, in turn, so that what came before has been taken by then. */
async function askWorkers(port: string): Promise<number> {
  const asked = performance.now();
  await fetch(`http://127.0.0.1:${port}/metrics`).then((answer) => answer.text());
  return performance.now() - asked;
}

interface Plane extends AsyncDisposable {
  readonly port: number;
  /** PEM. */
  readonly roots: string;
  heard(nonce: string): Promise<{ ms: number; bytes: number }>;
  change(order: ChangeOrder): void;
}

async function startControlPlane({ services, workloads }: MeshSize): Promise<Plane> {
  const child = fork(fileURLToPath(new URL('control-plane.ts', import.meta.url)), [String(services), String(workloads)]);
  const waiting = new Map<string, PromiseWithResolvers<{ ms: number; bytes: number }>>();
  const listening = Promise.withResolvers<{ port: number; roots: string }>();
  const failed = (why: string): void => {
    const error = new MeshError('internal', `the control plane of the benchmark: ${why}`);
    listening.reject(error);
    for (const { reject } of waiting.values()) reject(error);
  };
  child.on('message', (told: Told) => {
    if ('port' in told) listening.resolve(told);
    else if ('fault' in told) failed(told.fault);
    else waiting.get(told.nonce)?.resolve(told);
  });
  child.once('exit', () => failed('it ended'));
  return {
    ...(await listening.promise),
    heard(nonce) {
      const heard = Promise.withResolvers<{ ms: number; bytes: number }>();
      heard.promise.catch(() => undefined);
      waiting.set(nonce, heard);
      return heard.promise;
    },
    change: (order) => void child.send(order),
    [Symbol.asyncDispose]: () => ended(child),
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

async function ztunnelEnv({ port, roots }: Plane, folder: string): Promise<Record<string, string>> {
  const [admin, stats, readiness] = [await freePort(), await freePort(), await freePort()];
  const address = `https://localhost:${port}`;
  const rootFile = join(folder, 'roots.pem');
  await writeFile(rootFile, roots);
  return {
    NODE_NAME: 'node-0.example.internal',
    XDS_ADDRESS: address,
    CA_ADDRESS: address,
    XDS_ROOT_CA: rootFile,
    CA_ROOT_CA: rootFile,
    // Nobody listens there: no pod is served.
    INPOD_UDS: join(folder, 'zds.sock'),
    TAKEOVER_UDS: join(folder, 'takeover.sock'),
    ADMIN_PORT: String(admin),
    STATS_PORT: String(stats),
    READINESS_PORT: String(readiness),
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address ? address.port : 0;
}

/** The answer, or the fault of the ztunnel that ended before it. */
async function orEnded<T>(answer: Promise<T>, ztunnel: Background, signal: AbortSignal): Promise<T> {
  const over = new AbortController();
  const watch = async (): Promise<never> => {
    for (const end = performance.now() + SYNC_TIMEOUT; performance.now() < end;) {
      await sleep(500, undefined, { signal: AbortSignal.any([signal, over.signal]) });
      await ztunnel.check();
    }
    throw new MeshError('internal', `no acknowledgement in ${SYNC_TIMEOUT} ms`);
  };
  const watching = watch();
  watching.catch(() => undefined);
  try {
    return await Promise.race([answer, watching]);
  } finally {
    over.abort();
  }
}

async function settledMemory(pid: number, settle: number, signal: AbortSignal): Promise<number> {
  const started = performance.now();
  let { rss } = await readMemory(pid);
  for (let since = started; performance.now() - since < settle && performance.now() - started < STILL.atMost;) {
    await sleep(500, undefined, { signal });
    const now = (await readMemory(pid)).rss;
    if (Math.abs(now - rss) <= STILL.bytes) continue;
    rss = now;
    since = performance.now();
  }
  return (await readMemory(pid)).rss;
}

async function peakOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/mu.exec(status)?.[1] ?? 0) * 1024;
}
