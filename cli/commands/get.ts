// `culvert get`: lists objects, with the columns that kubectl shows.
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import { columnsOf } from '../columns.ts';
import { kindNamed, KIND_NAMES, pluralOf } from '../kinds.ts';
import { outputOption, printList } from '../output.ts';
import type { Format } from '../output.ts';

interface GetOptions {
  runDir: string;
  namespace: string;
  allNamespaces?: boolean;
  output: Format;
}

export function getCommand(): Command {
  return new Command('get')
    .description(`Lists objects of one kind, or one of them. Kinds: ${KIND_NAMES.join(', ')}.`)
    .argument('<kind>', 'pods, services, nodes, gateways, …; also KIND/NAME')
    .argument('[name]', 'one object only')
    .addOption(runDirOption())
    .option('-n, --namespace <namespace>', 'namespace to list', 'default')
    .option('-A, --all-namespaces', 'list all namespaces')
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nExamples:\n  culvert get pods -A\n  culvert get services -n shop -o wide\n  culvert get gateway/catalog -n shop -o yaml',
    )
    .action(async (wanted: string, nameWanted: string | undefined, options: GetOptions) => {
      const [kindName = '', name = nameWanted] = wanted.split('/', 2);
      const { kind, namespaced } = kindNamed(kindName);
      const cluster = await openCluster(options.runDir);
      const everywhere = !namespaced || options.allNamespaces === true;
      const all: KubeObject[] = (await cluster.objects()).list(kind, everywhere ? undefined : options.namespace);
      const found = all.filter(({ metadata }) => name === undefined || metadata.name === name).sort(byName);
      if (name !== undefined && found.length === 0)
        throw new MeshError('not_found', `there is no ${kind} ${name}${everywhere ? '' : ` in namespace ${options.namespace}`}`);
      const data = name === undefined ? { apiVersion: 'v1', kind: 'List', items: found } : found[0];
      const none = `no ${pluralOf(kind)} found${everywhere ? '' : ` in namespace ${options.namespace}`}`;
      printList(options.output, found, columnsOf(kind, namespaced && everywhere), { data, none });
    });
}

function byName(a: KubeObject, b: KubeObject): number {
  return `${a.metadata.namespace}/${a.metadata.name}` < `${b.metadata.namespace}/${b.metadata.name}` ? -1 : 1;
}
