// What counting costs the data path: `node bench/micro/counting.ts [ROUNDS]`. A number in an object literal, as cells were before other
// threads read them; in a cell of the heap; in shared memory. Each runs in a process of its own, so that none makes the code of the others
// polymorphic; `large` numbers are those of bytes, which leave the range of small integers (2^31).
import { spawnSync } from 'node:child_process';
import type { Cell } from '#shared/telemetry/cell.ts';
import { PlacedCell, PlainCell } from '#shared/telemetry/cell.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { SharedNumbers } from '#shared/telemetry/shared-numbers.ts';
import { median } from '../statistics.ts';

const TIMES = 2e7;
/** Label sets that are counted into in turn. */
const CELLS = 64;
const LARGE = 1e10;
/** As many as those of a connection. */
const LABELS = Array.from({ length: 28 }, (_, index) => `label-${index}`);
const BORN = 5000;

const PLACES = new Float64Array(new SharedArrayBuffer(CELLS * Float64Array.BYTES_PER_ELEMENT));

/** What each row runs; they return nanoseconds. */
const ROWS: Readonly<Record<string, () => number>> = {
  literal: () => countLiterals(0),
  'literal, large': () => countLiterals(LARGE),
  heap: () => count(() => new PlainCell(), 0),
  'heap, large': () => count(() => new PlainCell(), LARGE),
  shared: () => count((index) => new PlacedCell(PLACES, index), 0),
  'shared, large': () => count((index) => new PlacedCell(PLACES, index), LARGE),
  'a new label set, told to another thread': born,
};

function countLiterals(first: number): number {
  const cells = Array.from({ length: CELLS }, () => ({ value: 0 }));
  for (const cell of cells) cell.value = first;
  return timed(() => {
    for (let i = 0; i < TIMES / CELLS; i++) for (const cell of cells) cell.value += 1500;
  }, TIMES);
}

function count(make: (index: number) => Cell, first: number): number {
  const cells = Array.from({ length: CELLS }, (_, index) => make(index));
  for (const cell of cells) cell.value = first;
  return timed(() => {
    for (let i = 0; i < TIMES / CELLS; i++) for (const cell of cells) cell.add(1500);
  }, TIMES);
}

function born(): number {
  const { port1, port2 } = new MessageChannel();
  const shared = new SharedNumbers((news) => port1.postMessage(news));
  const family = new Metrics({ shared }).counter('a_total', 'A', LABELS);
  const sets = Array.from({ length: 2 * BORN }, (_, index) => LABELS.map((label) => `${label}-${index}`)).values();
  const took = timed(() => {
    for (const values of sets.take(BORN)) family.cell(...values);
  }, BORN);
  port2.close();
  return took;
}

/** Of the second of two runs, which is compiled. */
function timed(run: () => void, times: number): number {
  run();
  const start = performance.now();
  run();
  return ((performance.now() - start) * 1e6) / times;
}

const [first = '5'] = process.argv.slice(2);
const row = ROWS[first];
if (row) process.stdout.write(String(row()));
else {
  const results = Object.keys(ROWS).map((name): [string, number[]] => [name, []]);
  for (let round = 0; round < Number(first); round++)
    for (const [name, took] of results) {
      const { stdout } = spawnSync(process.execPath, [import.meta.filename, name], { encoding: 'utf8' });
      took.push(Number(stdout));
    }
  for (const [name, took] of results) process.stdout.write(`${name}: ${median(took)?.toFixed(1)} ns\n`);
}
