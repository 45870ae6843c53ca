// A lab for end-to-end tests: `culvert up` on a folder in a run directory of its own, through the command line as a user has it.
// Whatever the test does, everything is taken down at its end.
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { LabState } from '../../cli/lab/state.ts';

export const ROOT = resolve(import.meta.dirname, '..', '..');

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

export interface LabHarness {
  /** The objects' folder: files written here are seen by the lab. */
  readonly folder: string;
  readonly runDir: string;
  culvert(args: readonly string[], options?: { input?: string; timeout?: number }): Promise<Outcome>;
  /** Like culvert(), but a non-zero exit throws with what was said. */
  must(args: readonly string[], options?: { input?: string; timeout?: number }): Promise<string>;
  /** `culvert exec` of one command. */
  exec(namespace: string, pod: string, command: readonly string[]): Promise<Outcome>;
  write(file: string, content: string): Promise<void>;
  state(): Promise<LabState>;
}

export interface LabHarnessOptions {
  /** Files of the objects' folder, or an existing folder. */
  files: Record<string, string> | string;
  /** More arguments for `culvert up`. */
  args?: readonly string[];
  /** Do not start it: the test does. */
  start?: boolean;
}

interface Teardown {
  teardown(run: () => Promise<void>): void;
}

/** Milliseconds that one command of the tool may take. */
const TIMEOUT = 60_000;

/** Starts a lab and waits until its pods are ready. */
export async function startLab(t: Teardown, options: LabHarnessOptions): Promise<LabHarness> {
  const base = await mkdtemp(join(tmpdir(), 'culvert-e2e-'));
  const runDir = join(base, 'run');
  const folder = typeof options.files === 'string' ? options.files : join(base, 'objects');
  const harness: LabHarness = {
    folder,
    runDir,
    culvert: (args, { input = '', timeout = TIMEOUT } = {}) => runTool(runDir, args, input, timeout),
    must: async (args, commandOptions) => {
      const outcome = await harness.culvert(args, commandOptions);
      if (outcome.code !== 0)
        throw new Error(`culvert ${args.join(' ')}: exit ${outcome.code}: ${outcome.stderr}${outcome.stdout}`);
      return outcome.stdout;
    },
    exec: (namespace, pod, command) => harness.culvert(['exec', pod, '-n', namespace, '--', ...command]),
    write: async (file, content) => {
      await mkdir(dirname(join(folder, file)), { recursive: true });
      await writeFile(join(folder, file), content);
    },
    state: async () => JSON.parse(await readFile(join(runDir, 'lab.json'), 'utf8')) as LabState,
  };
  t.teardown(async () => {
    await harness.culvert(['down']);
    await rm(base, { recursive: true, force: true });
  });
  if (typeof options.files !== 'string')
    for (const [file, content] of Object.entries(options.files)) await harness.write(file, content);
  if (options.start !== false) await harness.must(['up', folder, '--detach', '--wait', ...(options.args ?? [])]);
  return harness;
}

/** Asks until it holds or the time is over; the last answer is returned either way. */
export async function eventually<T>(ask: () => Promise<T>, holds: (answer: T) => boolean, ms = 10_000): Promise<T> {
  const end = performance.now() + ms;
  for (;;) {
    const answer = await ask();
    if (holds(answer) || performance.now() > end) return answer;
    await new Promise((done) => setTimeout(done, 150));
  }
}

async function runTool(runDir: string, args: readonly string[], input: string, timeout: number): Promise<Outcome> {
  const child = spawn(join(ROOT, 'cli', 'culvert'), args, {
    env: { ...process.env, CULVERT_RUN_DIR: runDir },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (code) => done({ code: code ?? 1, stdout, stderr }));
  });
}
