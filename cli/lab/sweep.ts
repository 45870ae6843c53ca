// Removes everything that belongs to a lab, whether it still runs, ended, or was killed: the last step of the lab itself and the
// whole of `culvert down`.
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MeshError } from '#shared/errors.ts';
import { deleteNetns, listNetns, netnsPids } from './net/netns.ts';
import { labId, netnsPrefix } from './plan.ts';
import { isRunning, readLabState } from './state.ts';
import type { LabState, ProcessRecord } from './state.ts';

/** Milliseconds that a running lab gets to end itself. */
const SHUTDOWN = 15_000;

/** What a run directory may hold: anything else is somebody's, and is not removed. */
const OWN_ENTRIES = new Set([
  'controlplane', 'lab.json', 'lab.json.new', 'lab.log', 'nodes', 'objects', 'pods', 'status',
]); // prettier-ignore

/** Ends the lab of this run directory and removes what it left. Returns what was removed; nothing twice is nothing. */
export async function sweepLab(runDir: string, options: { keepLab?: boolean } = {}): Promise<string[]> {
  const removed: string[] = [];
  const state = await readLabState(runDir).catch(() => undefined);
  if (state && options.keepLab !== true && (await endProcess(state.lab, SHUTDOWN))) removed.push('the lab');
  const ended = await Promise.all((state ? recordedProcesses(state) : []).map((record) => endProcess(record, 0)));
  const processes = ended.filter(Boolean).length;
  if (processes > 0) removed.push(`${processes} processes`);
  const namespaces = await listNetns(netnsPrefix(labId(runDir)));
  for (const name of namespaces) {
    for (const pid of await netnsPids(name)) kill(pid, 'SIGKILL');
    await deleteNetns(name);
  }
  if (namespaces.length > 0) removed.push(`${namespaces.length} network namespaces`);
  if (await removeRunDir(runDir)) removed.push(runDir);
  return removed;
}

function recordedProcesses(state: LabState): ProcessRecord[] {
  const containers = state.pods.flatMap((pod) => pod.containers);
  return [...state.system, ...containers].flatMap(({ process: record }) => record ?? []);
}

/** True when it ran. SIGTERM first when it may take its time. */
async function endProcess(record: ProcessRecord, grace: number): Promise<boolean> {
  if (record.pid === process.pid || !(await isRunning(record))) return false;
  if (grace > 0) kill(record.pid, 'SIGTERM');
  for (let waited = 0; waited < grace; waited += 50) {
    if (!(await isRunning(record))) return true;
    await sleep(50);
  }
  kill(record.pid, 'SIGKILL');
  for (let waited = 0; waited < 2000 && (await isRunning(record)); waited += 20) await sleep(20);
  return true;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}

async function removeRunDir(runDir: string): Promise<boolean> {
  const entries = await readdir(runDir).catch(() => undefined);
  if (!entries || !isRunDir(entries)) return false;
  const foreign = entries.filter((name) => !OWN_ENTRIES.has(name));
  for (const name of entries)
    if (OWN_ENTRIES.has(name)) await rm(join(runDir, name), { recursive: true, force: true, maxRetries: 3 });
  if (foreign.length > 0)
    throw new MeshError('invalid_config', `${runDir} also holds ${foreign.join(', ')}, which no lab wrote: left alone`);
  await rm(runDir, { recursive: true, force: true });
  return true;
}

/** A folder that merely has an `objects` in it is not taken for a run directory: nothing of somebody else's is ever removed. */
function isRunDir(entries: readonly string[]): boolean {
  const made = ['controlplane', 'nodes', 'objects', 'pods', 'status'];
  return entries.includes('lab.json') || made.every((name) => entries.includes(name)) || entries.join() === 'lab.log';
}
