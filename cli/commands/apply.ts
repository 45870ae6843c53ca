// `culvert apply`: creates or replaces objects.
import { isDeepStrictEqual } from 'node:util';
import { Command } from 'commander';
import { objectKey } from '#shared/kube/object.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import { readDocuments, shownName } from '../documents.ts';
import { findObject } from '../find-object.ts';
import { print } from '../output.ts';

export function applyCommand(): Command {
  return new Command('apply')
    .description(
      'Creates or replaces the objects of files, folders or standard input. The last word counts: an edited file of the lab wins again.',
    )
    .requiredOption('-f, --filename <path...>', 'file, folder, or - for standard input')
    .addOption(runDirOption())
    .addHelpText(
      'after',
      '\nExamples:\n  culvert apply -f strict.yaml\n  culvert apply -f policies/\n  cat route.yaml | culvert apply -f -',
    )
    .action(async ({ filename, runDir }: { filename: string[]; runDir: string }) => {
      const cluster = await openCluster(runDir);
      const before = await cluster.written();
      const { objects, faults } = await readDocuments(filename);
      for (const object of objects) {
        await cluster.apply(object);
        print(`${shownName(object)} ${verb(findObject(before, objectKey(object)), object)}`);
      }
      for (const fault of faults) process.stderr.write(`culvert: ${fault}\n`);
      if (faults.length > 0 || objects.length === 0) process.exitCode = 1;
      if (objects.length === 0 && faults.length === 0) process.stderr.write('culvert: there is no object in what was given\n');
    });
}

function verb(before: KubeObject | undefined, after: KubeObject): string {
  if (!before) return 'created';
  const { uid: _, ...metadata } = before.metadata;
  return isDeepStrictEqual({ ...before, metadata }, after) ? 'unchanged' : 'configured';
}
