// `culvert up`: a whole mesh on this machine from a folder of Kubernetes YAML.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, realpath } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { runDirOption } from '../cluster.ts';
import { Lab } from '../lab/app.ts';
import { labId } from '../lab/plan.ts';
import { checkFolder, preflight } from '../lab/preflight.ts';
import { isRunning, readLabState } from '../lab/state.ts';
import { sweepLab } from '../lab/sweep.ts';
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
  const stopped = Promise.withResolvers<void>();
  // A second Ctrl-C must not interrupt the cleaning up: it is short.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopped.resolve());
  try {
    await Promise.race([lab.start(), stopped.promise]);
    await Promise.race([reportPods(lab), stopped.promise]);
    await stopped.promise;
  } finally {
    print('stopping        pods, mesh and network');
    await lab.close();
  }
}

/** Resolves when every pod is ready, telling how many are on the way there. */
async function reportPods(lab: Lab): Promise<void> {
  let told = '';
  for (;;) {
    const { ready, total } = lab.podCount();
    const line = `pods            ${ready} of ${total} ready`;
    if (line !== told) print(line);
    told = line;
    if (ready === total) break;
    await sleep(200);
  }
  print('The mesh runs. Ctrl-C ends it.');
}

/** The canonical path of a run directory that is free to use; what a crashed lab left there is removed. */
async function prepareRunDir(wanted: string): Promise<string> {
  await preflightTolerant(resolve(wanted));
  await mkdir(resolve(wanted), { recursive: true });
  return realpath(resolve(wanted));
}

async function preflightTolerant(runDir: string): Promise<void> {
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
  const logFile = join(runDir, 'lab.log');
  const log = openSync(logFile, 'a');
  const args = [
    'up',
    resolve(dir),
    '--run-dir',
    runDir,
    ...(options.nodes === undefined ? [] : ['--nodes', String(options.nodes)]),
  ];
  const child = spawn(
    process.execPath,
    [...process.execArgv, join(ROOT, 'cli', 'main.ts'), ...args, ...(options.mesh ? [] : ['--no-mesh'])],
    {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: dirname(runDir),
    },
  );
  closeSync(log);
  child.unref();
  let shown = 0;
  for (;;) {
    const text = await readFile(logFile, 'utf8').catch(() => '');
    process.stdout.write(text.slice(shown));
    shown = Math.max(shown, text.length);
    if (child.exitCode !== null || child.signalCode !== null) throw new MeshError('internal', 'the lab ended while it started');
    const state = await readLabState(runDir).catch(() => undefined);
    if (state?.phase === 'ready' && state.lab.pid === child.pid) break;
    await sleep(100);
  }
  if (options.wait === true) await waitForPods(runDir, { timeout: options.timeout * 1000 });
  print(`The mesh runs in ${runDir}. culvert down ends it.`);
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('it is a whole number from 1');
  return value;
}
