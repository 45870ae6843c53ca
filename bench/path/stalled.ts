// Connections whose receiver never reads, beside probes between the same two pods: does anybody else notice, and what do they hold?
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuBetween, readCpu } from '../measure/cpu.ts';
import { readMemory } from '../measure/memory.ts';
import { startInPod } from './inpod/start.ts';
import { ROOT } from './lab.ts';
import type { PathLab } from './lab.ts';
import type { Sample } from './loads.ts';
import { HTTP_PORT } from './topology.ts';

const STALLED = 20;
const PROBES = 5;
const PORT = '19100';
/** Between two looks at the memory, ms. */
const LOOK = 50;
/** The probes run alone for so long first, ms, in which young generations grow to the size that probes need: not held by what stalls. */
const ALONE = 8000;
const PROGRAMS = join(ROOT, 'bench', 'path', 'inpod');

/**
 * worst (ms, of all answers of the probes, from before the writers start until `seconds` after they are blocked), worstKept and worstNew
 * (on a kept connection and on a new one), failures, requests; held (MiB, per stalled connection: the most that both
 * ztunnels had, less the most that they had with the probes alone);
 * taken (MiB that a writer got rid of: what the kernels of the two pods buffer, and what was held).
 */
export async function measureStalled(lab: PathLab, seconds: number): Promise<Sample> {
  await using programs = new AsyncDisposableStack();
  const [client, far] = [lab.pod('mesh', 'client'), lab.pod('mesh', 'far')];
  programs.use(await startInPod(far.pid, join(PROGRAMS, 'silent-server.ts'), [PORT]));
  const probes = programs.use(
    await startInPod(client.pid, join(PROGRAMS, 'probes.ts'), [far.ip, String(HTTP_PORT), String(PROBES)]),
  );
  const writers = programs.use(
    await startInPod(client.pid, join(PROGRAMS, 'stalled-writers.ts'), [far.ip, PORT, String(STALLED)]),
  );
  const alone = watchMemory(lab);
  await sleep(ALONE);
  const [base, before] = [await alone.most(), await readCpu(lab.ztunnels)];
  const stalled = watchMemory(lab);
  writers.signal('SIGUSR2');
  const taken = Number(await writers.line());
  await sleep(seconds * 1000);
  probes.signal('SIGTERM');
  const said = JSON.parse(await probes.line()) as ProbeReport;
  const use = cpuBetween(before, await readCpu(lab.ztunnels));
  return {
    ...said,
    worst: Math.max(said.worstKept, said.worstNew),
    held: mebibytes((await stalled.most()) - base) / STALLED,
    taken: mebibytes(taken) / STALLED,
    cores: use.cores,
    user: use.user,
    machine: use.machine,
  };
}

interface ProbeReport {
  readonly requests: number;
  readonly failures: number;
  readonly worstKept: number;
  readonly worstNew: number;
}

async function anonymous(lab: PathLab): Promise<number> {
  const each = await Promise.all(lab.ztunnels.map(readMemory));
  return each.reduce((sum, memory) => sum + memory.anonymous, 0);
}

/** Anonymous memory of both ztunnels, bytes: looks until it is asked for the most. */
function watchMemory(lab: PathLab): { most(): Promise<number> } {
  let [most, watching] = [0, true];
  const watch = (async (): Promise<void> => {
    while (watching) {
      most = Math.max(most, await anonymous(lab));
      await sleep(LOOK);
    }
  })();
  // Of a run that was given up nobody asks.
  watch.catch(() => undefined);
  return {
    async most() {
      watching = false;
      await watch;
      return most;
    },
  };
}

function mebibytes(bytes: number): number {
  return bytes / (1 << 20);
}
