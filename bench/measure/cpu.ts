// CPU time of processes and of the machine, from /proc.
import { readdir, readFile } from 'node:fs/promises';
import { cpus } from 'node:os';

export interface CpuReading {
  /** Milliseconds since an arbitrary start. */
  readonly at: number;
  /** Of the processes, all threads: nanoseconds on a CPU (schedstat). */
  readonly onCpu: number;
  /** Of the processes: clock ticks in user and in kernel mode. */
  readonly user: number;
  readonly system: number;
  /** Of the machine: clock ticks that were not idle, and all. */
  readonly busy: number;
  readonly total: number;
}

export interface CpuUse {
  /** Seconds of CPU that the processes used. */
  readonly cpu: number;
  /** Cores that they used on average. */
  readonly cores: number;
  /** Share of it in user mode, 0 to 1. */
  readonly user: number;
  /** Share of the machine's time that was not idle, 0 to 1. */
  readonly machine: number;
  /** Cores that everything else used: clients, servers, and what the kernel does in nobody's name. */
  readonly others: number;
}

export async function readCpu(pids: readonly number[]): Promise<CpuReading> {
  const [processes, machine] = await Promise.all([Promise.all(pids.map(processCpu)), readFile('/proc/stat', 'utf8')]);
  const sum = (field: 'onCpu' | 'user' | 'system'): number => processes.reduce((total, one) => total + one[field], 0);
  return { at: performance.now(), onCpu: sum('onCpu'), user: sum('user'), system: sum('system'), ...parseMachine(machine) };
}

export function cpuBetween(before: CpuReading, after: CpuReading): CpuUse {
  const cpu = (after.onCpu - before.onCpu) / 1e9;
  const [user, system] = [after.user - before.user, after.system - before.system];
  const cores = cpu / Math.max(0.001, (after.at - before.at) / 1000);
  const machine = (after.busy - before.busy) / Math.max(1, after.total - before.total);
  return { cpu, cores, user: user / Math.max(1, user + system), machine, others: Math.max(0, machine * cpus().length - cores) };
}

/** The first line of /proc/stat: user nice system idle iowait irq softirq steal. */
export function parseMachine(stat: string): { busy: number; total: number } {
  const ticks = (/^cpu +(.*)$/mu.exec(stat)?.[1] ?? '').split(' ').slice(0, 8).map(Number);
  const total = ticks.reduce((sum, value) => sum + value, 0);
  return { total, busy: total - (ticks[3] ?? 0) - (ticks[4] ?? 0) };
}

/** Fields 14 and 15 of /proc/PID/stat, whose second field may hold blanks and brackets. */
export function parseTicks(stat: string): { user: number; system: number } {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { user: Number(fields[11] ?? 0), system: Number(fields[12] ?? 0) };
}

async function processCpu(pid: number): Promise<{ onCpu: number; user: number; system: number }> {
  const threads = await readdir(`/proc/${pid}/task`);
  const times = await Promise.all(threads.map((thread) => threadTime(pid, thread)));
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  return { onCpu: times.reduce((sum, time) => sum + time, 0), ...parseTicks(stat) };
}

async function threadTime(pid: number, thread: string): Promise<number> {
  // A thread may end between the listing and here.
  const text = await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').catch(() => '0');
  return Number(text.split(' ')[0]);
}
