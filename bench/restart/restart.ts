// One kill -9: how long after the start of the process in its place new connections work again.
import { readFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { MeshError } from '#shared/errors.ts';
import { readLabState } from '../../cli/lab/state.ts';
import { orAborted } from '../abortable.ts';
import type { InPod } from '../path/inpod/start.ts';
import { ZtunnelLog } from '../ztunnel-log.ts';

export interface Answer {
  readonly asked: number;
  readonly answered: number;
}

export interface Restarted {
  /** From the start of the process to the first byte of an answer, ms. */
  readonly took: number;
  /** What the new process logged on its way, with ms since its start. */
  readonly stages: string;
}

export interface RestartContext {
  readonly runDir: string;
  /** Asks all the time from a pod (`inpod/first-bytes.ts`). */
  readonly probe: InPod;
  readonly signal: AbortSignal;
}

const BACK_TIMEOUT = 30_000;
const POLL = 20;

/** Kills the ztunnel of a node; the lab starts another one after its pause. */
export async function killZtunnel(node: string, { runDir, probe, signal }: RestartContext): Promise<Restarted> {
  const before = await ztunnelPid(runDir, node);
  if (before === undefined) throw new MeshError('internal', `no ztunnel runs on ${node}`);
  const log = new ZtunnelLog(runDir, node);
  await log.mark();
  process.kill(before, 'SIGKILL');
  const killed = performance.timeOrigin + performance.now();
  const started = await startOfNext(runDir, node, before, signal);
  const back = async (): Promise<Answer> => {
    for (;;) {
      const answer = JSON.parse(await probe.line()) as Answer;
      if (answer.asked > killed && answer.answered > started) return answer;
    }
  };
  const { answered } = await orAborted(back(), signal, { ms: BACK_TIMEOUT, what: `connections after kill -9 on ${node}` });
  return { took: answered - started, stages: await stagesOf(log, started) };
}

/** When the process in its place was started, ms since the epoch. */
async function startOfNext(runDir: string, node: string, before: number, signal: AbortSignal): Promise<number> {
  for (;;) {
    const pid = await ztunnelPid(runDir, node);
    if (pid !== undefined && pid !== before) return startTime(await readFile(`/proc/${pid}/stat`, 'utf8'));
    await sleep(POLL, undefined, { signal });
  }
}

async function ztunnelPid(runDir: string, node: string): Promise<number | undefined> {
  const state = await readLabState(runDir);
  return state?.system.find((program) => program.name === 'ztunnel' && program.node === node)?.process?.pid;
}

/** From /proc/PID/stat, to 10 ms: field 22 counts hundredths of a second since the machine's start. */
function startTime(stat: string): number {
  const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  return Date.now() - uptime() * 1000 + ticks * 10;
}

/** What a start waits for, as our ztunnel logs it. */
const STAGES = ['started', 'xDS stream is up', 'pod enrolled'];

async function stagesOf(log: ZtunnelLog, started: number): Promise<string> {
  const lines = await log.lines();
  const reached = STAGES.flatMap((stage) => {
    const line = lines.find(({ text }) => text.includes(`\t${stage}`));
    return line ? [`${stage} ${Math.round(line.time - started)} ms`] : [];
  });
  return reached.join(', ');
}
