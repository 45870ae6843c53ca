// `npm run bench -- path`: the data path beside its peers, in one run on this machine.
import { readFile, writeFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { requirePrograms } from '../../cli/lab/preflight.ts';
import { wholeNumber } from '../../cli/numbers.ts';
import { print } from '../../cli/output.ts';
import { formatRows, rowsSvg } from '../report.ts';
import { measurementsOf, PEER_ROWS, rowOf, ROWS } from './rows.ts';
import type { RowSpec } from './rows.ts';
import { runRounds } from './run.ts';

interface PathOptions {
  json?: boolean;
  rounds: number;
  seconds: number;
  rows?: string;
  backend: 'native' | 'portable';
  peerZtunnel?: string;
  svg?: string;
}

const PROGRAMS: readonly [string, string][] = [
  ['wrk', 'wrk'],
  ['iperf3', 'iperf3'],
  ['nginx', 'nginx-light'],
  ['curl', 'curl'],
  ['openssl', 'openssl'],
];

export function pathCommand(): Command {
  return new Command('path')
    .description('Throughput, requests, connections and CPU through two ztunnels on two nodes, beside the direct path and peers.')
    .option('--json', 'rows as JSON')
    .option('--rounds <n>', 'interleaved rounds; medians are reported', wholeNumber, 3)
    .option('--seconds <s>', 'length of one measurement', wholeNumber, 2)
    .option('--rows <names>', 'only rows whose name begins with one of these, separated by commas')
    .addOption(new Option('--backend <name>', 'of our ztunnels').choices(['native', 'portable']).default('native'))
    .option('--peer-ztunnel <path>', 'binary of another ztunnel, measured beside ours')
    .option('--svg <file>', 'write the rows as a picture')
    .action(runPath);
}

async function runPath(options: PathOptions): Promise<void> {
  const missing = await requirePrograms(PROGRAMS);
  if (missing.length > 0) throw new MeshError('missing_capability', missing.join('\n'));
  const { rounds, seconds, backend, peerZtunnel } = options;
  const specs = chosen([...ROWS, ...(peerZtunnel === undefined ? [] : PEER_ROWS)], options.rows);
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
  const progress = (line: string): void => void process.stderr.write(`${line}\n`);
  const load = await loadAverage();
  const samples = await runRounds({
    measurements: measurementsOf(specs, peerZtunnel !== undefined),
    rounds,
    seconds,
    backend,
    peerZtunnel,
    progress,
    signal: stop.signal,
  });
  const rows = specs.flatMap((spec) => rowOf(spec, samples) ?? []);
  const title = `Culvert data path, ${backend} backend: medians of ${rounds} rounds of ${seconds} s, load average before ${load}`;
  if (options.svg !== undefined) await writeFile(options.svg, rowsSvg(rows, title));
  print(options.json === true ? JSON.stringify(rows, undefined, 2) : `${title}\n\n${formatRows(rows)}`);
  if (rows.length < specs.length || rows.some(({ ok }) => !ok)) process.exitCode = 1;
}

function chosen(specs: readonly RowSpec[], names: string | undefined): RowSpec[] {
  if (names === undefined) return [...specs];
  const wanted = names.split(',').map((name) => name.trim());
  const found = specs.filter((spec) => wanted.some((name) => spec.name.startsWith(name)));
  if (found.length === 0)
    throw new MeshError('invalid_config', `--rows ${names}: no such row; there are\n${specs.map(({ name }) => name).join('\n')}`);
  return found;
}

/** Of the last minute: what others did on this machine. */
async function loadAverage(): Promise<string> {
  return (await readFile('/proc/loadavg', 'utf8')).split(' ')[0] ?? '';
}
