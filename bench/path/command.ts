// `npm run bench -- path`: the data path beside its peers, in one run on this machine.
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { Command, Option } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { requirePrograms } from '../../cli/lab/preflight.ts';
import { wholeNumber } from '../../cli/numbers.ts';
import { print } from '../../cli/output.ts';
import { formatRows, rowsSvg } from '../report.ts';
import { runWaypointRows, WAYPOINT_ROWS, type WaypointRow } from '../waypoint/rows.ts';
import { PEER_ROWS, ROWS } from './bars.ts';
import { ROOT } from './lab.ts';
import { STREAM_MODULE } from './nginx-peer.ts';
import { exitCodeOf, measurementsOf, rowOf } from './rows.ts';
import type { RowSpec } from './rows.ts';
import { runPath } from './run.ts';
import { describeSubject } from './subjects.ts';

interface PathOptions {
  json?: boolean;
  rounds: number;
  seconds: number;
  rows?: string;
  backend: 'native' | 'portable';
  workers: string;
  peerZtunnel?: string;
  /** False: none. */
  svg?: string | false;
}

/** Of the picture, when no file was named. */
const PICTURE = join(ROOT, 'node_modules', '.cache', 'bench', 'path.svg');

const PROGRAMS: readonly [string, string][] = [
  ['wrk', 'wrk'],
  ['iperf3', 'iperf3'],
  ['nginx', 'nginx-light'],
  ['h2load', 'nghttp2-client'],
  ['curl', 'curl'],
  ['openssl', 'openssl'],
];

export function pathCommand(): Command {
  return new Command('path')
    .description(
      'Throughput, requests, connections, CPU and memory of two ztunnels on two nodes, beside the direct path and peers.',
    )
    .option('--json', 'rows as JSON')
    .option('--rounds <n>', 'interleaved rounds; medians are reported', wholeNumber, 3)
    .option('--seconds <s>', 'length of one measurement', wholeNumber, 2)
    .option('--rows <names>', 'only rows whose name begins with one of these, separated by commas')
    .addOption(new Option('--backend <name>', 'of our ztunnels').choices(['native', 'portable']).default('native'))
    .option('--workers <main|n>', 'which threads of our ztunnels serve connections', workerThreads, defaultWorkers())
    .option('--peer-ztunnel <path>', 'binary of another ztunnel, measured beside ours')
    .option('--svg <file>', 'where the rows go as a picture (default: a file below node_modules/.cache, named at the end)')
    .option('--no-svg', 'no picture')
    .addHelpText(
      'after',
      `
Exits 1 when a row is short of its bar or could not be measured (its "error" says why). Examples:
  npm run bench -- path
  npm run bench -- path --json --svg path.svg
  npm run bench -- path --workers main --rows 'hbone,same-node'
  npm run bench -- path --rows stalled,memory,tls --rounds 1
  npm run bench -- path --peer-ztunnel /usr/local/bin/ztunnel`,
    )
    .action(benchPath);
}

async function benchPath(options: PathOptions): Promise<void> {
  const missing = await requirePrograms(PROGRAMS);
  if (!existsSync(STREAM_MODULE)) missing.push(`${STREAM_MODULE} is missing: apt-get install libnginx-mod-stream`);
  if (missing.length > 0) throw new MeshError('missing_capability', missing.join('\n'));
  const { rounds, seconds, peerZtunnel } = options;
  const known = [...ROWS, ...WAYPOINT_ROWS, ...(peerZtunnel === undefined ? [] : PEER_ROWS)];
  const wanted = chosen<RowSpec | WaypointRow>(known, options.rows);
  const specs = wanted.filter((row) => 'load' in row);
  const load = await loadAverage();
  const run = { ...options, progress: (line: string) => void process.stderr.write(`${line}\n`), signal: stopSignal() };
  const { samples, faults, bystanders } = await runPath({
    ...run,
    measurements: measurementsOf(specs, peerZtunnel !== undefined),
  });
  const waypoint = await runWaypointRows({ ...run, rows: wanted.filter((row) => 'most' in row) });
  const rows = [...specs.flatMap((spec) => rowOf(spec, samples, faults) ?? []), ...waypoint];
  const still = bystanders === undefined ? '' : `; the lab beside used ${(bystanders * 100).toFixed(1)} % of a core`;
  const title = `Culvert data path, ${describeSubject(options)}: medians of ${rounds} rounds of ${seconds} s, load average before ${load}${still}`;
  if (options.svg !== false) await writePicture(options.svg ?? PICTURE, rowsSvg(rows, title));
  print(options.json === true ? JSON.stringify(rows, undefined, 2) : `${title}\n\n${formatRows(rows)}`);
  process.exitCode = exitCodeOf(rows, wanted.length);
}

async function writePicture(file: string, picture: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, picture);
  process.stderr.write(`the rows as a picture: ${file}\n`);
}

/** Aborted by the signals that end a program; a second one must not interrupt the cleaning up. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => stop.abort(new MeshError('draining', `stopped by ${signal}; what was started is gone`)));
  return stop.signal;
}

/** As a ztunnel that is told nothing. */
function defaultWorkers(): string {
  return String(Math.max(1, Math.floor(availableParallelism() / 2)));
}

function workerThreads(text: string): string {
  return text === 'main' ? text : String(wholeNumber(text));
}

function chosen<T extends { readonly name: string }>(specs: readonly T[], names: string | undefined): T[] {
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
