// A lab for the path benchmark: its pods with their addresses, and the ztunnels that are measured.
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Pod } from '#shared/kube/kinds.ts';
import { openCluster } from '../../cli/cluster.ts';
import { Lab } from '../../cli/lab/app.ts';
import { enterContainer } from '../../cli/lab/pod/container.ts';
import { runProgram } from '../../cli/lab/run.ts';
import type { RunResult } from '../../cli/lab/run.ts';
import { readLabState } from '../../cli/lab/state.ts';
import type { ZtunnelOverride } from '../../cli/lab/system.ts';
import { waitForPods } from '../../cli/wait.ts';
import { orAborted } from '../abortable.ts';
import { HTTP_PORT, PODS, topologyFiles } from './topology.ts';
import type { Namespace, PodName } from './topology.ts';

export const ROOT = resolve(import.meta.dirname, '..', '..');
/** Milliseconds. */
const READY_TIMEOUT = 60_000;
const TUNNEL_TIMEOUT = 20_000;
/** Nodes of the two ends of a tunnel. */
const PLACES = [PODS.client, PODS.far];

export interface BenchPod {
  readonly ip: string;
  /** Of its first container, whose namespaces a load generator enters. */
  readonly pid: number;
}

export interface PathLab extends AsyncDisposable {
  /** Process ids of the two ztunnels, the client's node first. */
  readonly ztunnels: readonly number[];
  /** Of everything that the mesh consists of: ztunnels, agents, control plane. */
  readonly programs: readonly number[];
  readonly runDir: string;
  /** One of the topology, or of the files beside it. */
  pod(namespace: string, name: string): BenchPod;
  /** Runs a program in the pod to its end; rejects when it fails, or at once when the benchmark is to stop. */
  exec(namespace: Namespace, name: PodName, argv: readonly string[]): Promise<string>;
}

export interface LabOptions {
  readonly ztunnel: ZtunnelOverride;
  /** Beside those of the topology, by name. */
  readonly files?: Readonly<Record<string, string>>;
  readonly progress: (line: string) => void;
  /** Ends the start, and whatever runs in a pod. What was started is gone when the start has rejected. */
  readonly signal: AbortSignal;
}

/** Starts it; resolves when pods are ready and a request has gone through a tunnel. */
export async function startPathLab({ ztunnel, files = {}, progress, signal }: LabOptions): Promise<PathLab> {
  await using cleanup = new AsyncDisposableStack();
  const base = await realpath(await mkdtemp(join(tmpdir(), 'culvert-bench-')));
  cleanup.defer(() => rm(base, { recursive: true, force: true }));
  const [runDir, folder] = [join(base, 'run'), join(base, 'objects')];
  await mkdir(runDir);
  await mkdir(folder);
  for (const [name, content] of Object.entries({ ...topologyFiles(), ...files })) await writeFile(join(folder, name), content);
  const quiet = (line: string): void => {
    if (line.startsWith('!')) progress(line);
  };
  const lab = new Lab({
    runDir,
    folder,
    nodes: 2,
    root: ROOT,
    programs: 'ambient',
    clock: systemClock,
    progress: quiet,
    ztunnel,
  });
  cleanup.defer(() => lab.close());
  await orAborted(lab.start(), signal);
  await orAborted(waitForPods(runDir, { timeout: READY_TIMEOUT }), signal);
  await orAborted(waitForPods(runDir, { timeout: READY_TIMEOUT, namespaces: ['mesh'], lacks: lacksEnrolment }), signal);
  const pods = await findPods(runDir);
  const pod = (namespace: string, name: string): BenchPod => {
    const found = pods.get(`${namespace}/${name}`);
    if (!found) throw new MeshError('internal', `the pod ${namespace}/${name} does not run`);
    return found;
  };
  const exec = async (namespace: Namespace, name: PodName, argv: readonly string[]): Promise<string> => {
    const program = runProgram(enterContainer(pod(namespace, name).pid, argv), { timeout: 120_000 });
    const result = await orAborted(program, signal);
    if (result.code !== 0) throw new MeshError('internal', `${argv.join(' ')} in ${namespace}/${name}: ${failure(result)}`);
    return result.stdout;
  };
  const state = await readLabState(runDir);
  const system = state?.system ?? [];
  const ztunnels = PLACES.flatMap((node) => system.find((program) => program.name === 'ztunnel' && program.node === node) ?? []);
  const reached = untilTunnelled(() => exec('mesh', 'client', fetchArgv(pod('mesh', 'far').ip)), ztunnels[0]?.log ?? '');
  await orAborted(reached, signal);
  const held = cleanup.move();
  return {
    ztunnels: ztunnels.flatMap(({ process }) => process?.pid ?? []),
    programs: system.flatMap(({ process }) => process?.pid ?? []),
    runDir,
    pod,
    exec,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

function failure({ code, stdout, stderr }: RunResult): string {
  return `exit ${code}: ${(stderr.trim() || stdout.trim()).slice(-500)}`;
}

function fetchArgv(ip: string): string[] {
  return ['curl', '-sSf', '-m', '2', '-o', '/dev/null', `http://${ip}:${HTTP_PORT}/`];
}

function lacksEnrolment({ metadata }: Pod): string | undefined {
  const value = metadata.annotations?.['ambient.istio.io/redirection'];
  return value === 'enabled' ? undefined : `redirection is ${value ?? 'not set'}`;
}

async function findPods(runDir: string): Promise<Map<string, BenchPod>> {
  const objects = await (await openCluster(runDir)).objects();
  const state = await readLabState(runDir);
  const found = new Map<string, BenchPod>();
  for (const { namespace, name, containers } of state?.pods ?? []) {
    const ip = objects.get('Pod', namespace, name)?.status?.podIP;
    const pid = containers[0]?.process?.pid;
    if (ip !== undefined && pid !== undefined) found.set(`${namespace}/${name}`, { ip, pid });
  }
  return found;
}

/** What is measured must be the tunnel: the ztunnel's access log says so. */
async function untilTunnelled(request: () => Promise<unknown>, log: string): Promise<void> {
  const end = performance.now() + TUNNEL_TIMEOUT;
  let last: unknown = 'no line of a tunnelled connection in its log';
  while (performance.now() < end) {
    try {
      await request();
      await sleep(200);
      if ((await readFile(log, 'utf8')).includes('dst.hbone_addr')) return;
    } catch (error) {
      last = error;
    }
    await sleep(300);
  }
  const tail = (await readFile(log, 'utf8')).trim().split('\n').slice(-5).join('\n');
  throw new MeshError(
    'internal',
    `no connection goes through a tunnel: ${MeshError.from(last).message}\n${log} ends with:\n${tail}`,
  );
}
