// Processes of the benchmark: started with their output in files, waited for, ended.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { runProgram } from '../../cli/lab/run.ts';

/** Milliseconds. */
const START_TIMEOUT = 20_000;

export interface Background extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** What it wrote to standard error so far. */
  errors(): Promise<string>;
  /** Throws with what it said when it has ended. */
  check(): Promise<void>;
}

/** Standard output goes to `FOLDER/NAME.out`, standard error to `FOLDER/NAME.err`. */
export function startProcess(name: string, folder: string, [program = '', ...args]: readonly string[]): Background {
  const files = ['out', 'err'].map((suffix) => openSync(join(folder, `${name}.${suffix}`), 'w'));
  const child = spawn(program, args, { stdio: ['ignore', ...files] });
  for (const file of files) closeSync(file);
  const gone = once(child, 'exit').catch(() => undefined);
  const errors = (): Promise<string> => readFile(join(folder, `${name}.err`), 'utf8');
  return {
    name,
    pid: child.pid ?? 0,
    errors,
    async check() {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) return;
      throw new MeshError('internal', `${name} ended: ${(await errors()).trim().slice(-500) || `${program} did not start`}`);
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}

/** Until it says `ready` on standard error. */
export function untilReady(process: Background): Promise<void> {
  return eventually(process, async () => /^ready$/mu.test(await process.errors()));
}

/** Until it takes connections there, in that network namespace. */
export function untilListening(process: Background, netns: string, { ip, port }: HostPort): Promise<void> {
  const knock = ['bash', '-c', `exec 3<>/dev/tcp/${ip}/${port}`];
  return eventually(process, async () => (await runProgram(knock, { netns })).code === 0);
}

async function eventually(process: Background, holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + START_TIMEOUT;
  while (!(await holds())) {
    await process.check();
    if (performance.now() > end)
      throw new MeshError('internal', `${process.name} is not up: ${(await process.errors()).trim().slice(-500)}`);
    await sleep(50);
  }
}
