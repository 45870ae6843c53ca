// One run: what is measured once, then rounds in which every measurement comes once, so that a noisy minute of the machine meets all of
// them alike.
import { orAborted } from '../abortable.ts';
import { Measured } from '../measured.ts';
import { measureHandshakes, measureHeld } from '../tls/measure.ts';
import { startHttp2Pair } from './http2-peer.ts';
import { measureIdle } from './idle.ts';
import { startPathLab } from './lab.ts';
import type { PathLab } from './lab.ts';
import { measureTraffic } from './loads.ts';
import type { Sample } from './loads.ts';
import { Bystanders } from './bystanders.ts';
import { startNginxHops } from './nginx-peer.ts';
import { pathOf, threadsOn } from './paths.ts';
import type { Others } from './paths.ts';
import { keyOf } from './rows.ts';
import type { Measurement, Subject } from './rows.ts';
import { measureStalled } from './stalled.ts';
import { servingThreads, ztunnelOf } from './subjects.ts';
import type { Subjects } from './subjects.ts';

export interface RunOptions extends Subjects {
  readonly measurements: readonly Measurement[];
  readonly rounds: number;
  /** Of one measurement. */
  readonly seconds: number;
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface RunResult {
  /** Medians by key of the measurement. */
  readonly samples: ReadonlyMap<string, Sample>;
  /** Why others failed. */
  readonly faults: ReadonlyMap<string, string>;
  /** Share of one core that a lab used while another one was measured, on average; undefined with one lab. */
  readonly bystanders: number | undefined;
}

/** Beyond its length, ms: whatever takes longer hangs. */
const PATIENCE = 60_000;
/**
 * Of the warm-up, s. A new connection runs through much more code than a request, and the optimising compiler sees only some thousands of them
 * in a second; a node's proxy has had weeks.
 */
const WARM_UP = 1;
const WARM_UP_OF_CONNECTIONS = 8;
/** Only a fresh process shows its memory, and the slowest answer of a probe has no median. */
const ONCE = new Set<string>(['idle', 'stalled', 'held']);

/** Everything that was started is gone afterwards. */
export async function runPath(options: RunOptions): Promise<RunResult> {
  const measured = new Measured(options);
  const once = options.measurements.filter(({ load }) => ONCE.has(load));
  for (const measurement of once.filter(({ load }) => load !== 'stalled'))
    await measured.take(keyOf(measurement), 'once', () => measureStill(measurement, options));
  const bystanders = await measureInLabs(options, measured);
  return { samples: measured.medians(), faults: measured.faults, bystanders };
}

/** An idle ztunnel has one worker, whatever serves in the other measurements: that is what its bar says. */
async function measureStill({ load, subject }: Measurement, options: RunOptions): Promise<Sample> {
  const { signal, progress } = options;
  if (load === 'held') return await orAborted(measureHeld(), signal);
  const ztunnel = ztunnelOf(subject, { ...options, workers: '1' });
  progress(`starting a lab to see the memory of ${subject}`);
  // The first start after a change strips types and compiles, and keeps the compiler; the second one finds its code in Node's cache.
  if (subject === 'culvert') await (await startPathLab({ ztunnel, progress, signal }))[Symbol.asyncDispose]();
  await using lab = await startPathLab({ ztunnel, progress, signal });
  return await orAborted(measureIdle(lab), signal, { ms: 4 * PATIENCE, what: `the memory of ${subject}` });
}

async function measureInLabs(options: RunOptions, measured: Measured): Promise<number | undefined> {
  const { measurements, rounds, seconds, signal } = options;
  await using cleanup = new AsyncDisposableStack();
  const wanted = measurements.filter(({ load }) => load !== 'idle' && load !== 'held');
  const labs = new Map<Subject, PathLab>();
  for (const subject of new Set(wanted.filter(({ route }) => route !== 'tls').map(({ subject }) => subject))) {
    options.progress(`starting the lab of ${subject}`);
    const needed = wanted.filter((one) => one.subject === subject && one.route !== 'tls').map(keyOf);
    const lab = await measured.attempt(needed, () => startPathLab({ ...options, ztunnel: ztunnelOf(subject, options) }));
    if (lab) labs.set(subject, cleanup.use(lab));
  }
  const own = labs.get('culvert');
  const pairs = wanted.filter(({ route }) => route === 'http2').map(keyOf);
  const http2 = own && pairs.length > 0 ? await measured.attempt(pairs, () => startHttp2Pair(own)) : undefined;
  if (http2) cleanup.use(http2);
  const copied = wanted.filter(({ route }) => route.startsWith('nginx')).map(keyOf);
  const nginx = own && copied.length > 0 ? await measured.attempt(copied, () => startNginxHops(own)) : undefined;
  if (nginx) cleanup.use(nginx);
  const bystanders = new Bystanders(labs);
  // A peer takes as many as it likes; only of ours a row tells what limits them.
  const threads = servingThreads(options);
  const one = (measurement: Measurement, length: number): Promise<Sample> => {
    const deadline = { ms: length * 1000 + PATIENCE, what: keyOf(measurement) };
    return bystanders.beside(
      measurement.subject,
      orAborted(measure(measurement, { labs, others: { http2, nginx }, threads }, length), signal, deadline),
    );
  };

  for (const measurement of wanted.filter(({ load }) => load === 'stalled'))
    await measured.take(keyOf(measurement), 'once', () => one(measurement, seconds));
  const inRounds = wanted.filter(({ load }) => load !== 'stalled');
  for (let round = 0; round <= rounds; round += 1)
    for (const measurement of inRounds) {
      const warmUp = measurement.load === 'connections' ? WARM_UP_OF_CONNECTIONS : WARM_UP;
      const [when, length] = round === 0 ? [undefined, warmUp] : [`round ${round}`, seconds];
      await measured.take(keyOf(measurement), when, () => one(measurement, length));
    }
  return bystanders.average;
}

interface Ways {
  readonly labs: ReadonlyMap<Subject, PathLab>;
  readonly others: Others;
  /** Of each ztunnel. */
  readonly threads: number;
}

async function measure({ route, load, subject }: Measurement, { labs, others, threads }: Ways, seconds: number): Promise<Sample> {
  if (load === 'handshake') return await measureHandshakes(seconds);
  const lab = labs.get(subject);
  if (!lab || load === 'idle' || load === 'held' || route === 'tls') throw new Error(`${route} ${load} is not measured in a lab`);
  const sample =
    load === 'stalled' ? await measureStalled(lab, seconds) : await measureTraffic(pathOf(route, lab, others), load, seconds);
  return { ...sample, threads: threadsOn(route, threads) };
}
