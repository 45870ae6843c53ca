// `culvert ztunnel`: becomes the node's ztunnel. No child: the same process id, signals and exit code, so that whoever started the
// command (a container runtime, systemd) has the ztunnel itself.
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
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
    .addHelpText(
      'after',
      `
Examples:
  culvert ztunnel               # NODE_NAME=node-1 XDS_ADDRESS=https://istiod.istio-system:15012 in its environment
  culvert ztunnel               # NODE_NAME=node-1 XDS_ADDRESS= LOCAL_XDS_PATH=mesh.yaml: from a file, without a control plane
  culvert ztunnel --takeover    # a new version in the place of the old one (docs/upgrade.md)`,
    )
    .action(({ takeover = false }: { takeover?: boolean }) => {
      const [node = process.execPath, ...argv] = nodeProgram(ROOT, 'ztunnel');
      if (!process.execve)
        throw new MeshError('missing_capability', `run ${join(ROOT, 'ztunnel/main.ts')} with node: ${node} cannot`);
      const env = Object.fromEntries(
        Object.entries(process.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
      );
      process.execve(node, [node, ...argv, ...(takeover ? ['--takeover'] : [])], env);
    });
}
