// `culvert delete`: removes objects, also those that a folder of the user still holds.
import { Command } from 'commander';
import { setTimeout as sleep } from 'node:timers/promises';
import { MeshError } from '#shared/errors.ts';
import { objectKey } from '#shared/kube/object.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import type { Cluster } from '../cluster.ts';
import { readDocuments, shownName, shownNameOf } from '../documents.ts';
import { findObject } from '../find-object.ts';
import { kindNamed } from '../kinds.ts';
import { readLabState } from '../lab/state.ts';
import { print } from '../output.ts';

interface DeleteOptions {
  runDir: string;
  namespace: string;
  filename?: string[];
  ignoreNotFound?: boolean;
}

export function deleteCommand(): Command {
  return new Command('delete')
    .description('Removes objects by kind and name, or those of files. A pod of a Deployment comes back anew, as in Kubernetes.')
    .argument('[kind]', 'pod, service, gateway, …')
    .argument('[names...]', 'names of the objects')
    .option('-f, --filename <path...>', 'the objects of a file, folder, or - for standard input')
    .option('-n, --namespace <namespace>', 'namespace of the objects', 'default')
    .option('--ignore-not-found', 'an object that is not there is no error')
    .addOption(runDirOption())
    .addHelpText(
      'after',
      '\nExamples:\n  culvert delete authorizationpolicy cart-alice-only -n shop\n  culvert delete -f strict.yaml',
    )
    .action(async (kindName: string | undefined, names: string[], options: DeleteOptions) => {
      const cluster = await openCluster(options.runDir);
      const view = await cluster.objects();
      for (const { shown, key } of await targets(kindName, names, options)) {
        const object = findObject(view, key);
        if (object) {
          await (isOwnedPod(object) ? recreate(cluster, object) : cluster.remove(key));
          print(`${shown} deleted`);
        } else if (options.ignoreNotFound !== true) {
          process.stderr.write(`culvert: ${shown} is not there\n`);
          process.exitCode = 1;
        }
      }
    });
}

async function targets(
  kindName: string | undefined,
  names: readonly string[],
  options: DeleteOptions,
): Promise<{ shown: string; key: string }[]> {
  if (options.filename) {
    const { objects, faults } = await readDocuments(options.filename);
    if (faults.length > 0) throw new MeshError('invalid_config', faults.join('\n'));
    return objects.map((object) => ({ shown: shownName(object), key: objectKey(object) }));
  }
  if (kindName === undefined || names.length === 0)
    throw new MeshError('invalid_config', 'name a kind and an object, or files with -f');
  const { kind, namespaced } = kindNamed(kindName);
  const namespace = namespaced ? options.namespace : '';
  return names.map((name) => ({ shown: shownNameOf(kind, name), key: objectKey({ kind, metadata: { namespace, name } }) }));
}

function isOwnedPod(object: KubeObject): boolean {
  return object.kind === 'Pod' && (object.metadata.ownerReferences ?? []).some(({ controller }) => controller === true);
}

/** Hides the pod until the kubelet has ended it, then lets its Deployment have it again. */
async function recreate(cluster: Cluster, pod: KubeObject): Promise<void> {
  const { namespace, name } = pod.metadata;
  const limit = 40_000;
  await cluster.remove(objectKey(pod));
  for (let waited = 0; waited < limit; waited += 50) {
    const lab = await readLabState(cluster.lab.runDir);
    if (!lab?.pods.some((other) => other.namespace === namespace && other.name === name)) break;
    await sleep(50);
  }
  await cluster.unhide(objectKey(pod));
}
