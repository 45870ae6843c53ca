// The rows of the waypoint: CPU that one worker spends on a request, beside an Envoy with the same configuration in the same run.
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { formatHostPort } from '#shared/address.ts';
import { inNetns } from '../../cli/lab/run.ts';
import type { Backend } from '#shared/reactor/create.ts';
import { cpuBetween, readCpu } from '../measure/cpu.ts';
import { parseH2load, parseWrk, requireAnswers } from '../measure/tools.ts';
import { limitOf } from '../path/limits.ts';
import { NOT_MEASURED, type Row } from '../path/rows.ts';
import type { RunResult } from '../path/run.ts';
import { Measured, type Sample } from '../measured.ts';
import { startWaypointLab, type Subject, SUBJECTS, type WaypointLab, type WaypointRoute } from './lab.ts';
import { GRPC_PATH, HTTP_PATH } from './mesh.ts';

export interface WaypointRow {
  readonly name: string;
  readonly route: WaypointRoute;
  /** At most so many times what Envoy needs. */
  readonly most: number;
  /** What is on in both while it is measured. */
  readonly on: string;
}

const EVERYWHERE =
  'L7 policy of 100 rules and two that deny, seven routes, access log, metrics; ends in network namespaces of their own';
const CORE = `${EVERYWHERE}, outside of the mesh: no redirect, no tunnels`;
const WHOLE = `${EVERYWHERE}, redirected as pods of the mesh, mTLS tunnels on both sides`;

/** Issue "The native data plane", table of bars. */
export const WAYPOINT_ROWS: readonly WaypointRow[] = [
  { name: 'waypoint http/1.1 requests-64 cpu', route: 'plain', most: 0.6, on: CORE },
  { name: 'waypoint hbone requests-64 cpu', route: 'tunnelled', most: 0.5, on: WHOLE },
  { name: 'waypoint grpc streams cpu', route: 'grpc', most: 0.6, on: CORE },
];

export interface WaypointRun {
  readonly rows: readonly WaypointRow[];
  readonly rounds: number;
  readonly seconds: number;
  readonly backend: Backend;
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Warm-up, s: the optimising compiler needs some ten thousand requests. */
const WARM_UP = 2;

export async function runWaypointRows(run: WaypointRun): Promise<Row[]> {
  const { rows, backend, progress } = run;
  if (rows.length === 0) return [];
  progress(`starting waypoints: ours with the ${backend} backend, and Envoy`);
  const measured = new Measured(run);
  const all = rows.flatMap((row) => SUBJECTS.map((subject) => keyOf(row, subject)));
  await using lab = await measured.attempt(all, () => startWaypointLab(backend));
  if (lab) await measureRounds(run, lab, measured);
  return rows.map((row) => rowOf(row, { samples: measured.medians(), faults: measured.faults }));
}

async function measureRounds({ rows, rounds, seconds }: WaypointRun, lab: WaypointLab, measured: Measured): Promise<void> {
  for (let round = 0; round <= rounds; round += 1)
    for (const row of rows)
      // In turns, so that neither always comes behind the other.
      for (const subject of round % 2 === 0 ? SUBJECTS : SUBJECTS.toReversed()) {
        const [when, length] = round === 0 ? [undefined, WARM_UP] : [`round ${round}`, seconds];
        await measured.take(keyOf(row, subject), when, () => measure(lab, row, subject, length));
      }
}

function keyOf({ name }: WaypointRow, subject: Subject): string {
  return `${name} ${subject}`;
}

function rowOf(row: WaypointRow, { samples, faults }: Pick<RunResult, 'samples' | 'faults'>): Row {
  const { name, most, on } = row;
  const [own, envoy] = [keyOf(row, 'culvert'), keyOf(row, 'envoy')];
  const [ours, theirs] = [samples.get(own), samples.get(envoy)];
  const common = { name, unit: 'CPU us', bar: `<= ${most.toFixed(2)} x peer`, on };
  const value = ours?.['cpuPerRequest'] ?? null;
  const peerValue = theirs?.['cpuPerRequest'];
  const peer = peerValue === undefined ? {} : { peer: 'envoy', peerValue };
  const error = faults.get(own) ?? faults.get(envoy);
  if (!ours || value === null || peerValue === undefined || error !== undefined)
    return { ...common, ...peer, value, ok: false, limit: NOT_MEASURED, error: error ?? 'not measured' };
  const ok = value <= most * peerValue;
  return { ...common, ...peer, value, ok, limit: limitOf('cpuPerRequest', ours) };
}

async function measure(lab: WaypointLab, { name, route }: WaypointRow, subject: Subject, seconds: number): Promise<Sample> {
  const command = inNetns(lab.clientsOf(route), await commandOf(lab, route, subject, seconds));
  const pids = [lab.pid(subject)];
  const before = await readCpu(pids);
  const { stdout } = await promisify(execFile)(command[0] ?? '', command.slice(1), { timeout: (seconds + 20) * 1000 });
  const use = cpuBetween(before, await readCpu(pids));
  await lab.check();
  const { requests, perSecond, p50, p99, errors } = route === 'grpc' ? parseH2load(stdout) : parseWrk(stdout);
  requireAnswers({ requests, errors }, `${name}, ${subject}`, stdout);
  const { cores, user, machine } = use;
  return { cpuPerRequest: (use.cpu * 1e6) / requests, rps: perSecond, p50, p99, cores, user, machine, threads: 1 };
}

/** 64 connections that keep alive; or four connections with 16 requests at a time on each. */
async function commandOf(lab: WaypointLab, route: WaypointRow['route'], subject: Subject, seconds: number): Promise<string[]> {
  const url = `http://${formatHostPort(lab.target(subject, route))}`;
  const flags = (headers: readonly string[]): string[] => headers.flatMap((header) => ['-H', header]);
  const headers = ['accept: */*', 'user-agent: bench/1.0', 'authorization: Bearer 0123456789abcdef'];
  if (route !== 'grpc')
    return ['wrk', '--latency', '-t', '1', '-c', '64', '-d', `${seconds}s`, ...flags(headers), url + HTTP_PATH];
  const message = join(lab.folder, 'message');
  await writeFile(message, Buffer.from([0, 0, 0, 0, 32, ...Buffer.alloc(32, 'x')]));
  const grpc = flags([...headers, 'content-type: application/grpc', 'te: trailers']);
  return ['h2load', '-t', '1', '-c', '4', '-m', '16', '-D', String(seconds), '-d', message, ...grpc, url + GRPC_PATH];
}
