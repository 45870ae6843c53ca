// `culvert proxy-status`: what each proxy has acknowledged of what the control plane sent.
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import { controlPlaneGet } from '../lab/control-plane.ts';
import { age, outputOption, printList } from '../output.ts';
import type { Format } from '../output.ts';

/** One entry of /debug/syncz. */
interface ProxyStatus {
  proxy: string;
  kind: string;
  nodeName?: string;
  identity?: string;
  protocol: string;
  connected: string;
  /** By short name of the type. */
  types: Record<string, { state: string; nacked?: unknown }>;
}

export function proxyStatusCommand(): Command {
  return new Command('proxy-status')
    .alias('ps')
    .description(
      'Shows, proxy by proxy, whether it has acknowledged the newest configuration; exits 1 when one has refused some.',
    )
    .argument('[proxy]', 'POD.NAMESPACE of one proxy')
    .addOption(outputOption())
    .addOption(runDirOption())
    .addHelpText('after', '\nExamples:\n  culvert proxy-status\n  culvert proxy-status ztunnel-node-1.culvert-system -o json')
    .action(async (wanted: string | undefined, { runDir, output }: { runDir: string; output: Format }) => {
      const { lab } = await openCluster(runDir);
      const answer = JSON.parse(await controlPlaneGet(lab.runDir, '/debug/syncz')) as { proxies: ProxyStatus[] };
      const rows = answer.proxies.filter(({ proxy }) => wanted === undefined || proxy === wanted).toSorted(byName);
      if (wanted !== undefined && rows.length === 0) throw new MeshError('not_found', `no proxy ${wanted} is connected`);
      const now = Date.now();
      printList(
        output,
        rows,
        [
          { title: 'NAME', value: ({ proxy }) => proxy },
          { title: 'KIND', value: ({ kind }) => kind },
          { title: 'NODE', value: ({ nodeName }) => nodeName },
          { title: 'CONNECTED', value: ({ connected }) => age(connected, now) },
          { title: 'TYPES', value: shownTypes },
          { title: 'IDENTITY', value: ({ identity }) => identity, wide: true },
        ],
        { none: 'no proxy is connected' },
      );
      const refused = rows.filter(({ types }) => Object.values(types).some(({ nacked }) => nacked !== undefined));
      for (const { proxy, types } of refused)
        process.stderr.write(`culvert: ${proxy} refused: ${JSON.stringify(refusals(types))}\n`);
      if (refused.length > 0) process.exitCode = 1;
    });
}

function shownTypes({ types }: ProxyStatus): string {
  return Object.entries(types)
    .map(([name, { state }]) => `${name.toUpperCase()}: ${state}`)
    .join(', ');
}

function refusals(types: ProxyStatus['types']): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(types).flatMap(([name, { nacked }]) => (nacked === undefined ? [] : [[name, nacked]])),
  );
}

function byName(a: ProxyStatus, b: ProxyStatus): number {
  return a.proxy < b.proxy ? -1 : 1;
}
