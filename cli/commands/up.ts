// `culvert up`: a whole mesh on this machine from a folder of Kubernetes YAML.
import { spawn } from 'node:child_process';
import { mkdir, open, realpath } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { runDirOption } from '../cluster.ts';
import { Lab } from '../lab/app.ts';
import { labId } from '../lab/plan.ts';
import { checkFolder, preflight } from '../lab/preflight.ts';
import { isRunning, readLabState } from '../lab/state.ts';
import { sweepLab } from '../lab/sweep.ts';
import { wholeNumber } from '../numbers.ts';
import { print } from '../output.ts';
import { waitForPods } from '../wait.ts';

interface UpOptions {
  runDir: string;
  nodes?: number;
  detach?: boolean;
  wait?: boolean;
  timeout: number;
  mesh: boolean;
}

const ROOT = resolve(import.meta.dirname, '..', '..');

export function upCommand(): Command {
  return new Command('up')
    .description('Runs a mesh on this machine: nodes and pods are network namespaces, pods run programs of this machine.')
    .argument('<dir>', 'folder of Kubernetes YAML')
    .addOption(runDirOption())
    .option('--nodes <n>', 'number of nodes (default: as many Node objects as the folder has, else 2)', wholeNumber)
    .option('--detach', 'return when the mesh runs, and leave it running')
    .option('--wait', 'with --detach: return when all pods are ready')
    .option('--timeout <seconds>', 'with --wait: how long to wait', wholeNumber, 60)
    .option('--no-mesh', 'nodes, pods and services only: no control plane, ztunnel or CNI agent')
    .addHelpText('after', '\nExamples:\n  culvert up manifests/samples/shop\n  culvert up . --nodes 3 --detach --wait')
    .action((dir: string, options: UpOptions) =>
      options.detach === true ? startDetached(dir, options) : runForeground(dir, options),
    );
}

async function runForeground(dir: string, options: UpOptions): Promise<void> {
  const folder = resolve(dir);
  await checkFolder(folder);
  const runDir = await prepareRunDir(options.runDir);
  const lab = new Lab({
    runDir,
    folder,
    nodes: options.nodes,
    programs: options.mesh ? 'ambient' : 'none',
    root: ROOT,
    clock: systemClock,
    progress: print,
  });
  const stop = new AbortController();
  const stopped = Promise.withResolvers<void>();
  stop.signal.addEventListener('abort', () => stopped.resolve());
  // A second Ctrl-C must not interrupt the cleaning up: it is short.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
  try {
    await Promise.race([lab.start(), stopped.promise]);
    await reportPods(lab, stop.signal);
    await stopped.promise;
  } finally {
    print('stopping        pods, mesh and network');
    await lab.close();
  }
}

/** Tells how many pods are ready until all are, or the lab is to stop. */
async function reportPods(lab: Lab, stopping: AbortSignal): Promise<void> {
  const tell = tellPods();
  while (!stopping.aborted) {
    const { ready, total } = lab.podCount();
    tell(ready, total);
    if (ready === total) break;
    await sleep(200);
  }
  if (!stopping.aborted) print('The mesh runs. Ctrl-C ends it.');
}

/** Prints how many pods are ready, when it is another number than before. */
function tellPods(): (ready: number, total: number) => void {
  let told = '';
  return (ready, total) => {
    const line = `pods            ${ready} of ${total} ready`;
    if (line !== told) print(line);
    told = line;
  };
}

/** The canonical path of a run directory that is free to use; what a crashed lab left there is removed. */
async function prepareRunDir(wanted: string): Promise<string> {
  await clearRunDir(resolve(wanted));
  await mkdir(resolve(wanted), { recursive: true });
  return realpath(resolve(wanted));
}

async function clearRunDir(runDir: string): Promise<void> {
  const state = await readLabState(runDir).catch(() => undefined);
  if (state && state.lab.pid !== process.pid && (await isRunning(state.lab)))
    throw new MeshError('invalid_config', `a lab runs in ${runDir} already (process ${state.lab.pid}): culvert down ends it`);
  if (state) {
    print('cleaning up     what an earlier lab left');
    await sweepLab(runDir);
  }
  await preflight(labId(runDir));
}

async function startDetached(dir: string, options: UpOptions): Promise<void> {
  await checkFolder(resolve(dir));
  const runDir = await prepareRunDir(options.runDir);
  // Held open: what a lab that fails says last can be read when it has removed its run directory already.
  await using log = await open(join(runDir, 'lab.log'), 'a+');
  const args = ['up', resolve(dir), '--run-dir', runDir];
  if (options.nodes !== undefined) args.push('--nodes', String(options.nodes));
  if (!options.mesh) args.push('--no-mesh');
  const child = spawn(process.execPath, [...process.execArgv, join(ROOT, 'cli', 'main.ts'), ...args], {
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
    cwd: dirname(runDir),
  });
  child.unref();
  let shown = 0;
  for (;;) {
    const ended = child.exitCode !== null || child.signalCode !== null;
    shown += await copyNew(log, shown);
    if (ended) throw new MeshError('internal', 'the lab ended while it started');
    const state = await readLabState(runDir).catch(() => undefined);
    if (state?.phase === 'ready' && state.lab.pid === child.pid) break;
    await sleep(100);
  }
  if (options.wait === true) await waitForPods(runDir, { timeout: options.timeout * 1000, progress: tellPods() });
  print(`The mesh runs in ${runDir}. culvert down ends it.`);
}

/** Shows what was written after `position`; returns how much it was. */
async function copyNew(file: FileHandle, position: number): Promise<number> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(65_536), 0, 65_536, position);
  process.stdout.write(buffer.subarray(0, bytesRead));
  return bytesRead;
}
