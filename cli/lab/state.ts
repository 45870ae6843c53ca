// lab.json: what a lab consists of, for the other commands, for `culvert down` after a crash, and for people.
import { readFile } from 'node:fs/promises';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '#shared/errors.ts';

export interface ProcessRecord {
  pid: number;
  /** Field 22 of /proc/PID/stat: with it a process id means one process only. */
  started: string;
}

export interface LabState {
  version: 1;
  id: string;
  runDir: string;
  /** Folders of objects: the user's, then `objects/`. */
  objectDirs: string[];
  statusDir: string;
  /** `starting` until everything that `culvert up` was given runs. */
  phase: 'starting' | 'ready' | 'stopping';
  /** The process of `culvert up`. */
  lab: ProcessRecord;
  fabric: { netns: string; address: string };
  nodes: { name: string; netns: string; address: string; podCidr: string; uplink: string; dir: string }[];
  /** Programs of the mesh. */
  system: { name: string; node?: string; netns: string; state: string; log: string; process?: ProcessRecord; restarts: number }[];
  pods: LabPod[];
}

export interface LabPod {
  namespace: string;
  name: string;
  node: string;
  netns?: string;
  dir: string;
  /** `process` is the container's first process, when it runs. */
  containers: { name: string; process?: ProcessRecord; log: string }[];
}

export async function writeLabState(state: LabState): Promise<void> {
  const file = join(state.runDir, 'lab.json');
  await writeFile(`${file}.new`, `${JSON.stringify(state, undefined, 2)}\n`);
  await rename(`${file}.new`, file);
}

/** Undefined when there is no lab in that directory. */
export async function readLabState(runDir: string): Promise<LabState | undefined> {
  let text: string;
  try {
    text = await readFile(join(runDir, 'lab.json'), 'utf8');
  } catch {
    return undefined;
  }
  const state = JSON.parse(text) as LabState;
  if (state.version !== 1) throw new MeshError('invalid_config', `${runDir}/lab.json is of another version of culvert`);
  return state;
}

/** What identifies a running process; undefined when it is gone. */
export async function recordProcess(pid: number): Promise<ProcessRecord | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, started] = [fields[0], fields[19]];
  return started === undefined || state === 'Z' ? undefined : { pid, started };
}

export async function isRunning(record: ProcessRecord): Promise<boolean> {
  return (await recordProcess(record.pid))?.started === record.started;
}
