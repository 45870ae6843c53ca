// How lists are shown: a table for people, JSON and YAML for scripts.
import { InvalidArgumentError, Option } from 'commander';
import { stringify } from 'yaml';

export const FORMATS = ['table', 'wide', 'json', 'yaml'] as const;
export type Format = (typeof FORMATS)[number];

/** `-o` of every command that lists something. */
export function outputOption(): Option {
  return new Option('-o, --output <format>', `how to show it: ${FORMATS.join(', ')}`)
    .default('table')
    .argParser((value: string): Format => {
      const format = FORMATS.find((candidate) => candidate === value);
      if (!format) throw new InvalidArgumentError(`it is one of ${FORMATS.join(', ')}`);
      return format;
    });
}

export interface Column<T> {
  title: string;
  value: (row: T) => string | number | undefined;
  /** Shown by `-o wide` only (true), or never there (false). */
  wide?: boolean;
}

export interface ListOptions {
  /** What JSON and YAML show; by default the rows themselves. */
  data?: unknown;
  /** What is said of a table without rows; on standard error, as kubectl does, so that a script counts no line of it. */
  none?: string;
}

export function printList<T>(
  format: Format,
  rows: readonly T[],
  columns: readonly Column<T>[],
  { data = rows, none = 'nothing found' }: ListOptions = {},
): void {
  if (format === 'json') print(JSON.stringify(data, undefined, 2));
  else if (format === 'yaml') print(stringify(data, { aliasDuplicateObjects: false }).trimEnd());
  else if (rows.length === 0) process.stderr.write(`${none}\n`);
  else
    print(
      formatTable(
        rows,
        columns.filter(({ wide }) => wide !== (format !== 'wide')),
      ),
    );
}

/** Columns as wide as their widest cell, three blanks apart, as kubectl shows them. */
export function formatTable<T>(rows: readonly T[], columns: readonly Column<T>[]): string {
  const lines = [
    columns.map(({ title }) => title),
    ...rows.map((row) => columns.map(({ value }) => String(value(row) ?? '<none>').replaceAll('\n', ' '))),
  ];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, index) => cell.padEnd(widths[index] ?? 0))
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}

/** One line, or several, on standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** `3m`, `2h`, `4d` since an ISO date. */
export function age(timestamp: string | undefined, now: number): string {
  const seconds = Math.floor((now - Date.parse(timestamp ?? '')) / 1000);
  if (!Number.isFinite(seconds)) return '<unknown>';
  if (seconds < 120) return `${Math.max(0, seconds)}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}
