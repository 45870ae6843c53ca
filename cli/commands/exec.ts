// `culvert exec`: runs a command inside a container of a running pod.
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import { enterContainer } from '../lab/pod/container.ts';
import { isRunning } from '../lab/state.ts';
import type { LabState } from '../lab/state.ts';

interface ExecOptions {
  runDir: string;
  namespace: string;
  container?: string;
}

export function execCommand(): Command {
  return new Command('exec')
    .description('Runs a command in a container of a pod, with its network, files and environment. Its exit code is passed on.')
    .argument('<pod>', 'name of the pod')
    .argument('<command...>', 'what to run, after --')
    .addOption(runDirOption())
    .option('-n, --namespace <namespace>', 'namespace of the pod', 'default')
    .option('-c, --container <name>', 'container (default: the first one)')
    .option('-i, --stdin', 'accepted for the habit: standard input is always passed on')
    .option('-t, --tty', 'accepted for the habit: a terminal is passed on when there is one')
    .passThroughOptions()
    .addHelpText(
      'after',
      '\nExamples:\n  culvert exec alice -n customers -- curl http://web.shop/\n  culvert exec -n shop catalog-v1-0 -- sh',
    )
    .action(async (pod: string, command: string[], options: ExecOptions) => {
      const { argv, rest } = splitOptions(command, options);
      const cluster = await openCluster(rest.runDir);
      process.exitCode = await execInPod(cluster.lab, rest.namespace, pod, rest.container, argv);
    });
}

/** Options between the pod and `--` belong to us, what follows to the command. */
function splitOptions(words: readonly string[], options: ExecOptions): { argv: string[]; rest: ExecOptions } {
  const rest = { ...options };
  const argv = [...words];
  const take = (): string => argv.splice(0, 2)[1] ?? '';
  for (;;) {
    const word = argv[0];
    if (word === '-n' || word === '--namespace') rest.namespace = take();
    else if (word === '-c' || word === '--container') rest.container = take();
    else if (word === '--run-dir') rest.runDir = take();
    else if (word === '-i' || word === '-t' || word === '-it' || word === '-ti') argv.shift();
    else {
      if (word === '--') argv.shift();
      break;
    }
  }
  if (argv.length === 0) throw new MeshError('invalid_config', 'there is no command: write it after --');
  return { argv, rest };
}

async function execInPod(
  lab: LabState,
  namespace: string,
  podName: string,
  containerName: string | undefined,
  command: readonly string[],
): Promise<number> {
  const pid = await containerPid(lab, namespace, podName, containerName);
  const [file = '', ...args] = enterContainer(pid, command, await processUser(pid));
  const child = spawn(file, args, { stdio: 'inherit', env: await processEnv(pid) });
  // The terminal sends Ctrl-C to both; the command decides what it means.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on('error', (error) => reject(new MeshError('missing_capability', `${file}: ${error.message}`, { cause: error })));
  child.on('exit', (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)));
  return promise;
}

async function containerPid(lab: LabState, namespace: string, podName: string, containerName?: string): Promise<number> {
  const pod = lab.pods.find((candidate) => candidate.namespace === namespace && candidate.name === podName);
  if (!pod) throw new MeshError('not_found', `there is no pod ${podName} in namespace ${namespace}`);
  const container = containerName === undefined ? pod.containers[0] : pod.containers.find(({ name }) => name === containerName);
  if (!container && containerName !== undefined)
    throw new MeshError('not_found', `pod ${podName} has no container ${containerName}`);
  if (!container?.process || !(await isRunning(container.process)))
    throw new MeshError(
      'not_found',
      `pod ${namespace}/${podName} has no running container${containerName === undefined ? '' : ` ${containerName}`}: culvert get pods tells why`,
    );
  return container.process.pid;
}

/** Whom the container's first process runs as. */
async function processUser(pid: number): Promise<{ uid: string; gid: string }> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  const id = (name: string): string => new RegExp(`^${name}:\\s+(\\d+)`, 'mu').exec(text)?.[1] ?? '0';
  return { uid: id('Uid'), gid: id('Gid') };
}

/** What the container was started with, and the terminal of whoever asks. */
async function processEnv(pid: number): Promise<Record<string, string>> {
  const text = await readFile(`/proc/${pid}/environ`, 'utf8');
  const env: Record<string, string> = process.env['TERM'] === undefined ? {} : { TERM: process.env['TERM'] };
  for (const pair of text.split('\0')) {
    const at = pair.indexOf('=');
    if (at > 0) env[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return env;
}
