// The memory of a ztunnel that has nothing to do, and what a connection adds that goes through a tunnel and is silent.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readMemory } from '../measure/memory.ts';
import type { Memory } from '../measure/memory.ts';
import { startInPod } from './inpod/start.ts';
import { ROOT } from './lab.ts';
import type { PathLab } from './lab.ts';
import type { Sample } from './loads.ts';

const PORT = '19101';
/**
 * The first ones open tunnels and compile code; they stay open, so that the others find no room that was given back. So many that a ztunnel
 * counts them as a burst and gives back what it left, as it does after the others.
 */
const FIRST = 600;
const CONNECTIONS = 2000;
/** So often as many are opened; the median counts. V8 takes and gives back memory in pages of 256 KiB, some of them half empty. */
const TIMES = 3;
/** Quiet: anonymous memory has not moved by more than this for so long, ms; at most LONGEST. */
const STILL = 128 * 1024;
const QUIET = 14_000;
const LONGEST = 45_000;
const PROGRAMS = join(ROOT, 'bench', 'path', 'inpod');

/**
 * idle (MB of RSS, of the ztunnel that has more), idleAnonymous (MB, of the same); perConnection (KB of anonymous memory of both ends),
 * outboundEnd and inboundEnd (KB, of each).
 */
export async function measureIdle(lab: PathLab): Promise<Sample> {
  const idle = await quiet(lab);
  const [client, far] = [lab.pod('mesh', 'client'), lab.pod('mesh', 'far')];
  await using _server = await startInPod(far.pid, join(PROGRAMS, 'silent-server.ts'), [PORT]);
  await using clients = await startInPod(client.pid, join(PROGRAMS, 'idle-connections.ts'), [
    far.ip,
    PORT,
    String(FIRST),
    ...Array.from({ length: TIMES }, () => String(CONNECTIONS)),
  ]);
  const next = async (): Promise<Memory[]> => {
    clients.signal('SIGUSR2');
    await clients.line();
    return await quiet(lab);
  };
  let before = await next();
  const taken: { both: number; ends: number[] }[] = [];
  for (let time = 0; time < TIMES; time += 1) {
    const after = await next();
    const ends = after.map(({ anonymous }, end) => (anonymous - (before[end]?.anonymous ?? 0)) / CONNECTIONS / 1000);
    taken.push({ both: ends.reduce((sum, end) => sum + end, 0), ends });
    before = after;
  }
  const { both = 0, ends: [outboundEnd = 0, inboundEnd = 0] = [] } =
    taken.toSorted((a, b) => a.both - b.both)[Math.floor(TIMES / 2)] ?? {};
  const largest = idle.toSorted((a, b) => b.rss - a.rss)[0];
  return {
    idle: (largest?.rss ?? 0) / 1e6,
    idleAnonymous: (largest?.anonymous ?? 0) / 1e6,
    perConnection: both,
    outboundEnd,
    inboundEnd,
  };
}

/** The memory of each ztunnel once garbage collection has settled. */
async function quiet(lab: PathLab): Promise<Memory[]> {
  const end = performance.now() + LONGEST;
  let since = performance.now();
  let reference = await Promise.all(lab.ztunnels.map(readMemory));
  for (;;) {
    await sleep(250);
    const now = await Promise.all(lab.ztunnels.map(readMemory));
    const moved = now.some(({ anonymous }, index) => Math.abs(anonymous - (reference[index]?.anonymous ?? 0)) > STILL);
    if (moved) [since, reference] = [performance.now(), now];
    if (performance.now() - since >= QUIET || performance.now() >= end) return now;
  }
}
