// `npm run bench -- restart`: how soon after kill -9 of a ztunnel new connections work again, also with many services in the mesh.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { stringify } from 'yaml';
import { wholeNumber } from '../../cli/numbers.ts';
import { print } from '../../cli/output.ts';
import { stopSignal } from '../path/command.ts';
import type { PathLab } from '../path/lab.ts';
import { startInPod } from '../path/inpod/start.ts';
import type { Row } from '../path/rows.ts';
import { HTTP_PORT, PODS } from '../path/topology.ts';
import { formatRows } from '../report.ts';
import { median } from '../statistics.ts';
import { durationRow, inLabs } from '../subject-labs.ts';
import type { SubjectLabsOptions } from '../subject-labs.ts';
import { killZtunnel } from './restart.ts';
import type { Restarted } from './restart.ts';

interface RestartOptions {
  json?: boolean;
  rounds: number;
  services: number;
  few?: boolean;
  workers: string;
  peerZtunnel?: string;
}

/** ms, at the median. */
const MAX_RESTART = 300;
const MAX_WITH_SERVICES = 1500;
/** Between two connections of the client, ms. */
const PAUSE = 5;
/** A lab starts a program with its shortest pause when it ran for this long before, ms. */
const STEADY = 10_500;

const ENDS = { client: PODS.client, server: PODS.far };

export function restartCommand(): Command {
  return new Command('restart')
    .description('New connections after kill -9 of the ztunnel of a client, or of a server.')
    .option('--json', 'rows as JSON')
    .option('--rounds <n>', 'kills of each; medians are reported', wholeNumber, 5)
    .option('--services <n>', 'how many the mesh has in the second lab', wholeNumber, 10_000)
    .option('--few', 'without the second lab')
    .option('--workers <main|n>', 'which threads of our ztunnels serve connections', '1')
    .option('--peer-ztunnel <path>', 'binary of another ztunnel, measured after ours')
    .addHelpText(
      'after',
      '\nExits 1 when a row is short of its bar. Examples:\n  npm run bench -- restart\n  npm run bench -- restart --few --rounds 3 --json',
    )
    .action(benchRestart);
}

async function benchRestart({ rounds, services, few, json, workers, peerZtunnel }: RestartOptions): Promise<void> {
  const progress = (line: string): void => void process.stderr.write(`${line}\n`);
  const labs = { backend: 'native', workers, peerZtunnel, progress, signal: stopSignal(), files: {} } as const;
  const rows = await restartRows('', MAX_RESTART, rounds, labs);
  if (few !== true) {
    const files = { 'services.yaml': serviceObjects(services) };
    rows.push(...(await restartRows(`, ${services} services`, MAX_WITH_SERVICES, rounds, { ...labs, files })));
  }
  print(json === true ? JSON.stringify(rows, undefined, 2) : formatRows(rows));
  if (rows.some(({ ok }) => !ok)) process.exitCode = 1;
}

async function restartRows(suffix: string, most: number, rounds: number, options: SubjectLabsOptions): Promise<Row[]> {
  const results = await inLabs(options, (lab) => measureRestarts(lab, rounds, options));
  const [ours, peers] = [results.get('culvert'), results.get('ztunnel')];
  return (['client', 'server'] as const).map((end) => {
    const taken = (ours?.[end] ?? []).toSorted((a, b) => a.took - b.took);
    const peer = peers && median(peers[end].map(({ took }) => took));
    const limit = `of the start: ${taken[Math.floor(taken.length / 2)]?.stages}`;
    return durationRow(`restart, ${end}'s ztunnel${suffix}`, most, median(taken.map(({ took }) => took)) ?? 0, peer, limit);
  });
}

type End = keyof typeof ENDS;

async function measureRestarts(
  lab: PathLab,
  rounds: number,
  { signal, progress }: SubjectLabsOptions,
): Promise<Record<End, Restarted[]>> {
  const program = join(import.meta.dirname, '..', 'path', 'inpod', 'first-bytes.ts');
  const args = [lab.pod('mesh', 'far').ip, String(HTTP_PORT), String(PAUSE)];
  await using probe = await startInPod(lab.pod('mesh', 'client').pid, program, args);
  const found: Record<End, Restarted[]> = { client: [], server: [] };
  for (let round = 0; round < rounds; round += 1)
    for (const end of ['client', 'server'] as const) {
      await sleep(STEADY / 2, undefined, { signal });
      const restarted = await killZtunnel(ENDS[end], { runDir: lab.runDir, probe, signal });
      found[end].push(restarted);
      progress(`round ${round + 1}  ${end}'s ztunnel  ${Math.round(restarted.took)} ms  ${restarted.stages}`);
    }
  return found;
}

/** Without pods: their addresses and names are what a ztunnel must know before it is ready. */
function serviceObjects(count: number): string {
  return Array.from({ length: count }, (_, index) =>
    stringify({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: `service-${index}`, namespace: `far-${index % 100}` },
      spec: {
        clusterIP: `10.97.${index >> 8}.${index & 255}`,
        selector: { app: `service-${index}` },
        ports: [{ name: 'http', port: 80, targetPort: 8080 }],
      },
    }),
  ).join('---\n');
}
