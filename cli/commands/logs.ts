// `culvert logs`: what a container, or a program of the mesh, wrote.
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import type { LabState } from '../lab/state.ts';

interface LogsOptions {
  runDir: string;
  namespace: string;
  container?: string;
  follow?: boolean;
  tail?: string;
}

export function logsCommand(): Command {
  return new Command('logs')
    .description('Shows what a container wrote, or a program of the mesh: controlplane, ztunnel/NODE, cni-agent/NODE.')
    .argument('<pod>', 'name of the pod, or of the program')
    .option('-n, --namespace <namespace>', 'namespace of the pod', 'default')
    .option('-c, --container <name>', 'container (default: the first one)')
    .option('-f, --follow', 'go on with what it writes from now on')
    .option('--tail <lines>', 'the last lines only')
    .addOption(runDirOption())
    .addHelpText('after', '\nExamples:\n  culvert logs web-0 -n shop --tail 20\n  culvert logs ztunnel/node-1 -f')
    .action(async (name: string, options: LogsOptions) => {
      const { lab } = await openCluster(options.runDir);
      await using file = await open(logFile(lab, name, options));
      let shown = await showEnd(file, options.tail === undefined ? undefined : Number(options.tail));
      while (options.follow === true) {
        await sleep(200);
        shown = await showFrom(file, shown);
      }
    });
}

function logFile(lab: LabState, name: string, options: LogsOptions): string {
  const [program, node] = name.split('/');
  const system = lab.system.find((entry) => entry.name === program && entry.node === node);
  if (system) return system.log;
  const pod = lab.pods.find((candidate) => candidate.namespace === options.namespace && candidate.name === name);
  if (!pod) throw new MeshError('not_found', `there is no pod ${name} in namespace ${options.namespace}`);
  const container =
    options.container === undefined ? pod.containers[0] : pod.containers.find((one) => one.name === options.container);
  if (!container)
    throw new MeshError('not_found', `pod ${name} has no container ${options.container ?? 'yet: culvert get pods tells why'}`);
  return container.log;
}

async function showEnd(file: FileHandle, lines: number | undefined): Promise<number> {
  const content = await file.readFile();
  const text = content.toString();
  if (lines === undefined) process.stdout.write(text);
  else {
    const last = text.trimEnd().split('\n').slice(-lines);
    if (text !== '') process.stdout.write(`${last.join('\n')}\n`);
  }
  return content.length;
}

async function showFrom(file: FileHandle, position: number): Promise<number> {
  const chunk = Buffer.alloc(65_536);
  let at = position;
  for (;;) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) return at;
    process.stdout.write(chunk.subarray(0, bytesRead));
    at += bytesRead;
  }
}
