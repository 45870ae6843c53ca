// The micro benchmarks of TLS, each in a process of its own.
import { join } from 'node:path';
import { run } from '../../cli/lab/run.ts';
import type { Sample } from '../path/loads.ts';

/** Young garbage as in a ztunnel, docs/seams.md. */
const FLAGS = ['--max-semi-space-size=16', '--expose-gc'];

/** cpuPerPair (ms of both ends) and perSecond, on one thread. */
export async function measureHandshakes(seconds: number): Promise<Sample> {
  const { cpuPerPair, perSecond } = await report('handshake.ts', [String(seconds)]);
  return { cpuPerPair: (cpuPerPair ?? NaN) / 1000, perSecond: perSecond ?? NaN };
}

/** perEndpoint (KB of anonymous memory). */
export async function measureHeld(): Promise<Sample> {
  return await report('held.ts', []);
}

async function report(program: string, args: readonly string[]): Promise<Sample> {
  return JSON.parse(await run([process.execPath, ...FLAGS, join(import.meta.dirname, program), ...args])) as Sample;
}
