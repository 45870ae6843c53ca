// How much memory a process has, as the kernel counts it.
import { readFile, readlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { MeshError } from '#shared/errors.ts';

/** Bytes. */
export interface MemoryReading {
  /** Proportional share: pages that several processes map count for each by its share. */
  pss: number;
  /** Pages that no other process maps. */
  own: number;
  /** Pages that others map too, such as the program itself. */
  shared: number;
}

/** From the text of /proc/PID/smaps_rollup. */
export function parseSmaps(text: string): MemoryReading {
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'mu').exec(text)?.[1] ?? Number.NaN) * 1024;
  const reading = {
    pss: field('Pss'),
    own: field('Private_Clean') + field('Private_Dirty'),
    shared: field('Shared_Clean') + field('Shared_Dirty'),
  };
  if (Object.values(reading).some(Number.isNaN)) throw new MeshError('internal', 'smaps_rollup has not the expected fields');
  return reading;
}

/** Of a running process, with the program that it runs. */
export async function readMemory(pid: number): Promise<MemoryReading & { program: string }> {
  try {
    // By name: pods see the same file through file systems of their own.
    const program = basename(await readlink(`/proc/${pid}/exe`));
    return { ...parseSmaps(await readFile(`/proc/${pid}/smaps_rollup`, 'utf8')), program };
  } catch (error) {
    throw new MeshError('internal', `the memory of process ${pid} cannot be read: ${MeshError.from(error).message}`, {
      cause: error,
    });
  }
}

/**
 * What these processes would take on a node of their own: the pages of each, and the pages that processes of one program share once.
 * On this machine they also share with everything else that runs the same program, so the sum of PSS says too little.
 */
export function nodeMemory(readings: readonly (MemoryReading & { program: string })[]): number {
  const shared = new Map<string, number>();
  let total = 0;
  for (const reading of readings) {
    total += reading.own;
    shared.set(reading.program, Math.max(shared.get(reading.program) ?? 0, reading.shared));
  }
  for (const bytes of shared.values()) total += bytes;
  return total;
}
