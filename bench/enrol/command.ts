// `npm run bench -- enrol`: how soon a pod that joins the mesh has its first byte over mTLS.
import { Command } from 'commander';
import { wholeNumber } from '../../cli/numbers.ts';
import { print } from '../../cli/output.ts';
import { stopSignal } from '../path/command.ts';
import type { PathLab } from '../path/lab.ts';
import { formatRows } from '../report.ts';
import { quantile } from '../statistics.ts';
import { durationRow, inLabs } from '../subject-labs.ts';
import { enrol } from './enrol.ts';
import type { Enrolled } from './enrol.ts';
import { enrolFiles, latePod } from './objects.ts';

interface EnrolOptions {
  json?: boolean;
  pods: number;
  workers: string;
  peerZtunnel?: string;
}

/** ms */
const MAX_KNOWN_P50 = 10;
const MAX_LABEL_P99 = 300;

export function enrolCommand(): Command {
  return new Command('enrol')
    .description('From the label on a pod, and from when its ztunnel knows it, to the first byte over mTLS.')
    .option('--json', 'rows as JSON')
    .option('--pods <n>', 'how many join, one after the other', wholeNumber, 20)
    .option('--workers <main|n>', 'which threads of our ztunnels serve connections', '1')
    .option('--peer-ztunnel <path>', 'binary of another ztunnel, measured after ours')
    .addHelpText(
      'after',
      '\nExits 1 when a row is short of its bar. Examples:\n  npm run bench -- enrol\n  npm run bench -- enrol --pods 5 --json',
    )
    .action(benchEnrol);
}

async function benchEnrol({ pods, json, workers, peerZtunnel }: EnrolOptions): Promise<void> {
  const progress = (line: string): void => void process.stderr.write(`${line}\n`);
  const signal = stopSignal();
  // The first one does not count: code is compiled and connections are opened for it.
  const files = enrolFiles(pods + 1);
  const measure = async (lab: PathLab): Promise<Enrolled[]> => {
    const found: Enrolled[] = [];
    for (let index = 0; index <= pods; index += 1) {
      const enrolled = await enrol(lab, latePod(index), signal);
      if (index > 0) found.push(enrolled);
      const { label, known, listening } = enrolled;
      progress(
        `${index === 0 ? 'warm-up' : `pod ${index}`}  ${label.toFixed(0)} ms from the label, ${known.toFixed(1)} ms from ZDS, ${listening.toFixed(1)} ms until it listens`,
      );
    }
    return found;
  };
  const results = await inLabs({ backend: 'native', workers, peerZtunnel, files, signal, progress }, measure);
  const of = (field: keyof Enrolled, share: number, subject: 'culvert' | 'ztunnel'): number | undefined => {
    const found = results.get(subject);
    return (
      found &&
      quantile(
        found.map((one) => one[field]),
        share,
      )
    );
  };
  const row = (name: string, most: number, field: keyof Enrolled, share: number) =>
    durationRow(
      name,
      most,
      of(field, share, 'culvert') ?? Infinity,
      of(field, share, 'ztunnel'),
      `listeners were bound after ${of('listening', 0.5, 'culvert')?.toFixed(1)} ms at the median; the rest is the tunnel: its certificate and its TLS`,
    );
  const rows = [
    row('enrol, from ZDS to the first byte p50', MAX_KNOWN_P50, 'known', 0.5),
    row('enrol, from the label to the first byte p99', MAX_LABEL_P99, 'label', 0.99),
  ];
  print(json === true ? JSON.stringify(rows, undefined, 2) : formatRows(rows));
  if (rows.some(({ ok }) => !ok)) process.exitCode = 1;
}
