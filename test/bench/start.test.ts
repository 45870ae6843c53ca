// The benchmarks of starts: a row for each end of a restart, and for an enrolment, from a lab of real processes.
import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import type { Row } from '../../bench/path/rows.ts';
import { durationRow } from '../../bench/subject-labs.ts';
import { parseLines } from '../../bench/ztunnel-log.ts';

t.setTimeout(120_000);

const main = resolve(import.meta.dirname, '..', '..', 'bench', 'main.ts');

/** Whether a row is short is another question. */
async function rowsOf(...args: string[]): Promise<Row[]> {
  const command = promisify(execFile)(process.execPath, [main, ...args, '--json']);
  const { stdout } = await command.catch((failed: { stdout: string }) => failed);
  return JSON.parse(stdout) as Row[];
}

t.test('restart', async (t) => {
  const rows = await rowsOf('restart', '--rounds', '1', '--few');
  t.match(rows, [
    { name: "restart, client's ztunnel", unit: 'ms', bar: '<= 300' },
    { name: "restart, server's ztunnel", unit: 'ms', bar: '<= 300' },
  ]);
  for (const { value } of rows) t.ok(value !== null && value > 10 && value < 20_000, `${value} ms`);
});

t.test('enrol', async (t) => {
  const [known, label] = await rowsOf('enrol', '--pods', '1');
  t.match(known, { name: 'enrol, from ZDS to the first byte p50', bar: '<= 10' });
  t.match(label, { name: 'enrol, from the label to the first byte p99', bar: '<= 300' });
  t.ok((known?.value ?? 0) > 0, `${known?.value} ms`);
  t.ok((label?.value ?? 0) > (known?.value ?? Infinity), `${label?.value} ms`);
});

t.test('rows of durations', async (t) => {
  t.same(durationRow('a', 10, 9, undefined, 'why'), {
    name: 'a',
    unit: 'ms',
    value: 9,
    bar: '<= 10',
    ok: true,
    limit: 'why',
  });
  t.match(durationRow('a', 10, 11, 3, 'why'), { ok: false, peer: 'ztunnel', peerValue: 3, limit: 'why' });
});

t.test('lines of a log by their time', async (t) => {
  const lines = parseLines('2026-01-02T03:04:05.006Z\tinfo\tinpod\tpod enrolled\nrubbish\n');
  t.same(lines, [{ time: Date.UTC(2026, 0, 2, 3, 4, 5, 6), text: 'info\tinpod\tpod enrolled' }]);
});
