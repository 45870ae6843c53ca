// A listening socket for each data worker (SO_REUSEPORT) beside one that they share (INPOD_PORT_REUSE=false): connections a second, what one
// costs, and how evenly the workers share them. As root: `node bench/micro/accepting.ts [ROUNDS] [SECONDS]`.
import { readdir, readFile } from 'node:fs/promises';
import { cpuBetween, readCpu } from '../measure/cpu.ts';
import { stopSignal } from '../path/command.ts';
import { startPathLab } from '../path/lab.ts';
import type { PathLab } from '../path/lab.ts';
import { measureTraffic, PROBES_PER_SECOND } from '../path/loads.ts';
import { pathOf } from '../path/paths.ts';
import { medians } from '../statistics.ts';

const WORKERS = 2;
/** That path/probe.ts makes before it counts. */
const PROBES_BEFORE = 20;
const WAYS = { 'one socket': 'false', 'a socket each': 'true' } as const;
type Way = keyof typeof WAYS;

const [rounds = 3, seconds = 2] = process.argv.slice(2).map(Number);
const progress = (line: string): void => void process.stderr.write(`${line}\n`);
await using cleanup = new AsyncDisposableStack();
const labs = new Map<Way, PathLab>();
const signal = stopSignal();
for (const [way, reuse] of Object.entries(WAYS) as [Way, string][]) {
  progress(`starting the lab with ${way}`);
  const env = { CULVERT_BACKEND: 'native', ZTUNNEL_WORKER_THREADS: String(WORKERS), INPOD_PORT_REUSE: reuse };
  labs.set(way, cleanup.use(await startPathLab({ ztunnel: { env }, progress, signal })));
}
const taken = new Map<Way, Record<string, number>[]>([...labs.keys()].map((way) => [way, []]));
// The first round warms up: code is compiled in eight threads.
for (let round = 0; round <= rounds; round++)
  for (const [way, lab] of round % 2 === 0 ? labs : [...labs].toReversed()) {
    const before = await threadTimes(lab);
    const sample = await measureTraffic(pathOf('hbone', lab), 'connections', round === 0 ? 4 : seconds);
    const busiest = shareOfBusiest(before, await threadTimes(lab));
    // Now one at a time, when all workers sleep: whoever is woken for nothing shows here.
    const quiet = await readCpu(lab.ztunnels);
    const { p50 = NaN } = await measureTraffic(pathOf('hbone', lab), 'new-connection', seconds);
    const alone = (cpuBetween(quiet, await readCpu(lab.ztunnels)).cpu * 1e6) / (seconds * PROBES_PER_SECOND + PROBES_BEFORE);
    const { rps = NaN, cpuPerRequest = NaN, p99 = NaN } = sample;
    progress(
      `round ${round}  ${way.padEnd(14)} ${rps.toFixed(0)}/s  ${cpuPerRequest.toFixed(0)} us  busiest ${busiest.toFixed(2)}`,
    );
    if (round > 0) taken.get(way)?.push({ rps, cpuPerRequest, p99, busiest, alone, p50 });
  }
for (const [way, samples] of taken) {
  const { rps = NaN, cpuPerRequest = NaN, p99 = NaN, busiest = NaN, alone = NaN, p50 = NaN } = medians(samples);
  process.stdout.write(
    `${way.padEnd(14)} ${rps.toFixed(0)} connections/s, ${cpuPerRequest.toFixed(0)} us CPU each, p99 ${(p99 / 1000).toFixed(1)} ms; the busier worker did ${(busiest * 100).toFixed(0)} % of the work; one at a time ${alone.toFixed(0)} us CPU, p50 ${p50.toFixed(0)} us\n`,
  );
}

/** Nanoseconds on a CPU of each thread of the client's ztunnel, where the connections of applications arrive. */
async function threadTimes({ ztunnels: [pid = 0] }: PathLab): Promise<Map<string, number>> {
  const times = new Map<string, number>();
  for (const thread of await readdir(`/proc/${pid}/task`))
    times.set(thread, Number((await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')).split(' ')[0]));
  return times;
}

/** Of what the workers did: they are the threads that did most. */
function shareOfBusiest(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): number {
  const work = [...after].map(([thread, time]) => time - (before.get(thread) ?? 0)).toSorted((a, b) => b - a);
  const [busiest = 0, ...others] = work.slice(0, WORKERS);
  return busiest / (busiest + others.reduce((sum, one) => sum + one, 0));
}
