// Memory of a process, from /proc.
import { readFile } from 'node:fs/promises';

export interface Memory {
  /** Bytes in RAM. */
  readonly rss: number;
  /** Of these, bytes that belong to no file. */
  readonly anonymous: number;
}

export async function readMemory(pid: number): Promise<Memory> {
  return parseMemory(await readFile(`/proc/${pid}/status`, 'utf8'));
}

export function parseMemory(status: string): Memory {
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'mu').exec(status)?.[1] ?? 0) * 1024;
  return { rss: field('VmRSS'), anonymous: field('RssAnon') };
}
