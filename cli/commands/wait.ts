// `culvert wait`: returns when pods are ready, or in the mesh.
import { Argument, Command } from 'commander';
import { parseDuration } from '#shared/env.ts';
import { MeshError } from '#shared/errors.ts';
import type { Pod } from '#shared/kube/kinds.ts';
import { runDirOption } from '../cluster.ts';
import { print } from '../output.ts';
import { waitForPods } from '../wait.ts';

const CONDITIONS = ['ready', 'enrolled', 'unenrolled'] as const;
type WaitCondition = (typeof CONDITIONS)[number];

/** The agent's note on a pod (facts: cni 4). */
const REDIRECTION = 'ambient.istio.io/redirection';

export function waitCommand(): Command {
  return new Command('wait')
    .description(
      'Returns when the pods are ready (the default), enrolled in the mesh, or out of it; exits 1 when they are not in time.',
    )
    .addArgument(new Argument('[condition]', 'what to wait for').choices(CONDITIONS).default('ready'))
    .argument('[pods...]', 'names of pods (default: all of the namespaces)')
    .option('-n, --namespace <namespace...>', 'namespaces (default: all)')
    .option('--timeout <duration>', 'how long to wait', '60s')
    .addOption(runDirOption())
    .addHelpText(
      'after',
      '\nExamples:\n  culvert wait\n  culvert wait enrolled -n shop -n customers --timeout 20s\n  culvert wait ready waypoint-0 -n shop',
    )
    .action(
      async (condition: WaitCondition, pods: string[], options: { namespace?: string[]; timeout: string; runDir: string }) => {
        const timeout = parseDuration(options.timeout) ?? parseDuration(`${options.timeout}s`);
        if (timeout === undefined)
          throw new MeshError('invalid_config', `--timeout: "${options.timeout}" is no duration such as 20s or 2m`);
        const count = await waitForPods(options.runDir, {
          timeout,
          ...(options.namespace && { namespaces: options.namespace }),
          ...(pods.length > 0 && { names: pods }),
          ...(condition !== 'ready' && { lacks: (pod: Pod) => lacksEnrolment(pod, condition === 'enrolled') }),
        });
        print(`${count} pods ${condition}`);
      },
    );
}

function lacksEnrolment(pod: Pod, wanted: boolean): string | undefined {
  if (pod.spec?.hostNetwork === true) return undefined;
  const note = pod.metadata.annotations?.[REDIRECTION];
  if (wanted) return note === 'enabled' ? undefined : `is not enrolled${note === undefined ? '' : ` (${note})`}`;
  return note === undefined ? undefined : `is still enrolled (${note})`;
}
