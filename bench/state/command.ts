// `npm run bench -- state`: what a mesh of 10,000 services and 50,000 workloads adds to a ztunnel, beside one that knows an empty mesh.
import { Command } from 'commander';
import { wholeNumber } from '../../cli/numbers.ts';
import { print } from '../../cli/output.ts';
import type { Sample } from '../measured.ts';
import { stopSignal } from '../path/command.ts';
import type { Row } from '../path/rows.ts';
import { formatRows } from '../report.ts';
import { medians } from '../statistics.ts';
import { measureState } from './ztunnel.ts';

interface StateOptions {
  json?: boolean;
  services: number;
  workloads: number;
  changes: number;
  rounds: number;
  peerZtunnel?: string;
}

/** MB, MB, ms, ms. */
const MOST = { settled: 60, peak: 150, sync: 2000, change: 5 };

export function stateCommand(): Command {
  return new Command('state')
    .description('Memory and time that a large mesh takes in a ztunnel, beside an empty mesh.')
    .option('--json', 'rows as JSON')
    .option('--services <n>', 'services of the mesh', wholeNumber, 10_000)
    .option('--workloads <n>', 'workloads of the mesh', wholeNumber, 50_000)
    .option('--changes <n>', 'changes of one workload, one after the other', wholeNumber, 50)
    .option('--rounds <n>', 'interleaved rounds; medians are reported', wholeNumber, 3)
    .option('--peer-ztunnel <path>', 'the binary of another ztunnel, measured in the same rounds')
    .addHelpText(
      'after',
      '\nExits 1 when a row is short of its bar. Examples:\n  npm run bench -- state\n  npm run bench -- state --rounds 1 --json',
    )
    .action(benchState);
}

type Subject = 'culvert' | 'ztunnel';

async function benchState(options: StateOptions): Promise<void> {
  const { rounds, changes, services, workloads, peerZtunnel } = options;
  const signal = stopSignal();
  const subjects: Subject[] = peerZtunnel === undefined ? ['culvert'] : ['culvert', 'ztunnel'];
  const taken = new Map<string, Sample[]>();
  for (let round = 1; round <= rounds; round++)
    for (const subject of subjects)
      for (const [name, mesh] of Object.entries({ empty: { services: 0, workloads: 0 }, full: { services, workloads } })) {
        const peer = subject === 'ztunnel' ? peerZtunnel : undefined;
        const sample = await measureState({ mesh, changes: name === 'full' ? changes : 0, peer, signal });
        const key = `${subject} ${name}`;
        taken.set(key, [...(taken.get(key) ?? []), sample]);
        const numbers = Object.entries(sample).map(([field, value]) => `${field} ${value.toFixed(1)}`);
        process.stderr.write(`round ${round}  ${key.padEnd(14)} ${numbers.join('  ')}\n`);
      }
  const rows = rowsOf((subject) => added(taken, subject), subjects.includes('ztunnel'));
  print(options.json === true ? JSON.stringify(rows, undefined, 2) : formatRows(rows));
  if (rows.some(({ ok }) => !ok)) process.exitCode = 1;
}

/** What the full mesh adds to the empty one. Peaks are compared with each other: a start takes more than it keeps. */
function added(taken: ReadonlyMap<string, readonly Sample[]>, subject: Subject): Record<keyof typeof MOST, number> {
  const of = (mesh: string): Record<string, number> => medians(taken.get(`${subject} ${mesh}`) ?? []);
  const [empty, full] = [of('empty'), of('full')];
  const more = (field: string): number => (full[field] ?? 0) - (empty[field] ?? 0);
  return { settled: more('settled'), peak: more('peak'), sync: full['sync'] ?? 0, change: full['change'] ?? 0 };
}

function rowsOf(of: (subject: Subject) => Record<keyof typeof MOST, number>, peer: boolean): Row[] {
  const [own, other] = [of('culvert'), peer ? of('ztunnel') : undefined];
  const row = (name: string, unit: string, field: keyof typeof MOST, limit: string): Row => ({
    name,
    unit,
    value: own[field],
    ...(other ? { peer: 'ztunnel', peerValue: other[field] } : {}),
    bar: `<= ${MOST[field]}`,
    ok: own[field] <= MOST[field],
    limit,
  });
  return [
    row(
      'memory that the mesh adds, settled',
      'MB',
      'settled',
      'objects of the mesh: once on the main thread and once in each data worker',
    ),
    row(
      'the same at the peak',
      'MB',
      'peak',
      'the first response: it is there whole, encoded and decoded, before what it says is kept',
    ),
    row('first full sync', 'ms', 'sync', 'CPU: one thread decodes the response, each data worker takes what it says'),
    row('a change of one workload', 'ms', 'change', 'waiting: for the answer of each data worker'),
  ];
}
