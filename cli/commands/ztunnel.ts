// `culvert ztunnel`: becomes the node's ztunnel. No child: the same process id, signals and exit code, so that whoever started the
// command (a container runtime, systemd) has the ztunnel itself.
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { isBundled } from '../build/bundle.ts';
import { nodeProgram } from '../lab/system.ts';

const ROOT = resolve(import.meta.dirname, '..', '..');

export function ztunnelCommand(): Command {
  return new Command('ztunnel')
    .description(
      'Runs the ztunnel of this node, configured by the environment as Istio’s is (docs/seams.md): NODE_NAME, XDS_ADDRESS, CA_ADDRESS, INPOD_UDS, …',
    )
    .option(
      '--takeover',
      'take pods, listening sockets and counters over from the ztunnel that runs here now, which then drains and ends; without one, start as usual',
    )
    .option(
      '--workers <n|n%|main>',
      'threads that serve connections: a number, 0 for one per core, a share of the cores, or main for none of their own; goes before ZTUNNEL_WORKER_THREADS (default 50%)',
      workerThreads,
    )
    .addHelpText(
      'after',
      `
Examples:
  culvert ztunnel               # NODE_NAME=node-1 XDS_ADDRESS=https://istiod.istio-system:15012 in its environment
  culvert ztunnel               # NODE_NAME=node-1 XDS_ADDRESS= LOCAL_XDS_PATH=mesh.yaml: from a file, without a control plane
  culvert ztunnel --workers 2   # two threads serve connections, whatever ZTUNNEL_WORKER_THREADS says (docs/decisions/0006-data-workers.md)
  culvert ztunnel --takeover    # a new version in the place of the old one (docs/upgrade.md)`,
    )
    .action(async ({ takeover = false, workers }: { takeover?: boolean; workers?: string }) => {
      const from = (await isBundled(ROOT)) ? 'bundle' : 'source';
      const [node = process.execPath, ...argv] = nodeProgram(ROOT, 'ztunnel', from);
      if (!process.execve)
        throw new MeshError('missing_capability', `run ${join(ROOT, 'ztunnel/main.ts')} with node: ${node} cannot`);
      const env = Object.fromEntries(
        Object.entries(process.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
      );
      if (workers !== undefined) env['ZTUNNEL_WORKER_THREADS'] = workers;
      process.execve(node, [node, ...argv, ...(takeover ? ['--takeover'] : [])], env);
    });
}

/** Its form alone: how many there may be is the ztunnel's to say. */
function workerThreads(text: string): string {
  if (!/^(main|\d+%?)$/u.test(text))
    throw new InvalidArgumentError('it is a number of threads, a share of the cores such as 50%, or main');
  return text;
}
