// `culvert ztunnel-config explain`: what would become of a connection, asked of the ztunnel that would carry it.
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import type { Explanation } from '../explanation.ts';
import { adminGet } from '../node-admin.ts';
import { formatTable, outputOption, print, printList } from '../output.ts';
import type { Format } from '../output.ts';

export function explainCommand(): Command {
  return new Command('explain')
    .description(
      'Says what would become of a connection and why: the rule that decides, next hop, identities, endpoints, policies.',
    )
    .argument('<source>', 'NAMESPACE/POD, or the address of a pod')
    .argument('<destination>', 'HOST:PORT as the pod would say it, or IP:PORT')
    .addOption(outputOption())
    .addOption(runDirOption())
    .addHelpText(
      'after',
      '\nExamples:\n  culvert ztunnel-config explain shop/web cart.shop:80\n  culvert ztunnel-config explain 10.244.0.5 10.96.0.10:80 -o json',
    )
    .action(async (source: string, destination: string, options: { output: Format; runDir: string }) => {
      const { lab } = await openCluster(options.runDir);
      const [first] = lab.nodes;
      if (!first) throw new MeshError('not_found', 'the cluster has no node');
      const path = `/explain?src=${encodeURIComponent(source)}&dst=${encodeURIComponent(destination)}`;
      const ask = async (netns: string): Promise<Explanation> => JSON.parse(await adminGet(netns, path)) as Explanation;
      const anywhere = await ask(first.netns);
      // What is known of the mesh is the same everywhere; who is served, and so who is joined without a tunnel, is not.
      const own = lab.nodes.find(({ name }) => name === anywhere.source.node && name !== first.name);
      const explanation = own ? await ask(own.netns) : anywhere;
      if (options.output === 'json' || options.output === 'yaml') printList(options.output, [], [], { data: explanation });
      else print(describe(explanation));
    });
}

/** For people. */
export function describe({ source, destination, service, rule, why, nextHop, endpoints, policies, error }: Explanation): string {
  const facts: [string, string | undefined][] = [
    ['SOURCE', `${source.workload} (${source.identity})`],
    ['DESTINATION', service === undefined ? destination : `${destination}, service ${service}`],
    ['RULE', rule],
    ...why.map((reason, index): [string, string] => [index === 0 ? 'WHY' : '', reason]),
    [
      'NEXT HOP',
      nextHop && `${nextHop.address}${nextHop.workload === undefined ? '' : ` (${nextHop.workload})`}, ${nextHop.kind}`,
    ],
    ['CONNECT', nextHop?.authority],
    ...(nextHop?.identities ?? []).map((identity, index): [string, string] => [index === 0 ? 'IDENTITY EXPECTED' : '', identity]),
    ...(nextHop?.gatewayIdentities ?? []).map((identity, index): [string, string] => [
      index === 0 ? 'OF THE GATEWAY' : '',
      identity,
    ]),
    ['POLICIES', policies && `${policies.allowed ? 'let it in' : 'refuse it'}: ${policies.reason}`],
    ...(policies?.dryRun ?? []).map((note): [string, string] => ['', note]),
    ['NO WAY', error && `${error.message} (response flag ${error.responseFlags})`],
  ];
  const shown = facts.filter(([, value]) => value !== undefined && value !== '');
  const width = Math.max(...shown.map(([title]) => title.length));
  const lines = shown.map(([title, value]) => `${title.padEnd(width)}   ${value ?? ''}`);
  if (endpoints.length === 0) return lines.join('\n');
  const table = formatTable(endpoints, [
    { title: 'ENDPOINT', value: (row) => row.workload },
    { title: 'ADDRESS', value: (row) => row.address },
    {
      title: 'USED',
      value: (row) => row.reason ?? (row.group === 0 ? 'yes' : `when those of group ${(row.group ?? 1) - 1} are gone`),
    },
  ]);
  return `${lines.join('\n')}\n\n${table}`;
}
