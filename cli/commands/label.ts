// `culvert label`: sets and removes labels, which is how pods join the mesh and get a waypoint.
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import { shownName } from '../documents.ts';
import { kindNamed } from '../kinds.ts';
import { print } from '../output.ts';

interface LabelOptions {
  runDir: string;
  namespace: string;
  overwrite?: boolean;
}

export interface LabelChanges {
  set: Record<string, string>;
  remove: string[];
}

export function labelCommand(): Command {
  return new Command('label')
    .description('Sets (KEY=VALUE) and removes (KEY-) labels of an object.')
    .argument('<kind>', 'namespace, pod, service, …')
    .argument('<name>', 'name of the object')
    .argument('<labels...>', 'KEY=VALUE to set, KEY- to remove')
    .option('-n, --namespace <namespace>', 'namespace of the object', 'default')
    .option('--overwrite', 'allow a label to change its value')
    .addOption(runDirOption())
    .addHelpText(
      'after',
      '\nExamples:\n  culvert label namespace shop istio.io/dataplane-mode=ambient\n  culvert label namespace shop istio.io/dataplane-mode-\n  culvert label service catalog -n shop istio.io/use-waypoint=waypoint',
    )
    .action(async (kindName: string, name: string, words: string[], options: LabelOptions) => {
      const { kind, namespaced } = kindNamed(kindName);
      const changes = parseLabels(words);
      const cluster = await openCluster(options.runDir);
      const object: KubeObject | undefined = (await cluster.written()).get(kind, namespaced ? options.namespace : '', name);
      if (!object)
        throw new MeshError('not_found', `there is no ${kind} ${name}${namespaced ? ` in namespace ${options.namespace}` : ''}`);
      const { labels, verb } = changeLabels(object.metadata.labels ?? {}, changes, options.overwrite === true);
      if (verb !== 'not labeled') await cluster.apply({ ...object, metadata: { ...object.metadata, labels } });
      print(`${shownName(object)} ${verb}`);
    });
}

/** `KEY=VALUE` and `KEY-`; throws with the word that is neither. */
export function parseLabels(words: readonly string[]): LabelChanges {
  const changes: LabelChanges = { set: {}, remove: [] };
  for (const word of words) {
    const [, key, value] = /^([A-Za-z0-9][\w./-]*)=([\w.-]*)$/u.exec(word) ?? [];
    if (key !== undefined && value !== undefined) changes.set[key] = value;
    else if (/^[A-Za-z0-9][\w./-]*-$/u.test(word)) changes.remove.push(word.slice(0, -1));
    else throw new MeshError('invalid_config', `"${word}" is neither KEY=VALUE nor KEY-`);
  }
  return changes;
}

/** The new labels, and what kubectl says of the change. */
export function changeLabels(
  before: Readonly<Record<string, string>>,
  { set, remove }: LabelChanges,
  overwrite: boolean,
): { labels: Record<string, string>; verb: 'labeled' | 'unlabeled' | 'not labeled' } {
  for (const [key, value] of Object.entries(set)) {
    const old = before[key];
    if (old !== undefined && old !== value && !overwrite)
      throw new MeshError('invalid_config', `'${key}' already has a value (${old}): change it with --overwrite`);
  }
  const labels = { ...before, ...set };
  for (const key of remove) delete labels[key];
  const added = Object.entries(set).some(([key, value]) => before[key] !== value);
  const removed = remove.some((key) => before[key] !== undefined);
  return { labels, verb: added ? 'labeled' : removed ? 'unlabeled' : 'not labeled' };
}
