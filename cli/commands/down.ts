// `culvert down`: ends the lab and removes everything it made, also after a crash.
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { runDirOption } from '../cluster.ts';
import { sweepLab } from '../lab/sweep.ts';
import { print } from '../output.ts';

export function downCommand(): Command {
  return new Command('down')
    .description('Ends the lab of a run directory and removes its namespaces, rules, processes and files. Does nothing twice.')
    .addOption(runDirOption())
    .addHelpText('after', '\nExamples:\n  culvert down\n  culvert down --run-dir /run/other')
    .action(async ({ runDir }: { runDir: string }) => {
      const dir = resolve(runDir);
      const removed = await sweepLab(await realpath(dir).catch(() => dir));
      print(removed.length === 0 ? `nothing runs in ${dir}` : `removed: ${removed.join(', ')}`);
    });
}
