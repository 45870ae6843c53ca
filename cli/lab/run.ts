// Runs a program to its end: how the lab calls ip, nft and the CNI plugins.
import { spawn } from 'node:child_process';
import { MeshError } from '#shared/errors.ts';

export interface RunOptions {
  /** Name of the network namespace to run in; default the lab's own. */
  netns?: string | undefined;
  input?: string | undefined;
  env?: Record<string, string> | undefined;
  /** Milliseconds after which the program is killed; default 30,000. */
  timeout?: number | undefined;
}

export interface RunResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** More output than this of one program is a fault, not a result. */
const MAX_OUTPUT = 4 << 20;

/** The command line that runs `argv` inside a named network namespace. */
export function inNetns(netns: string | undefined, argv: readonly string[]): string[] {
  return netns === undefined ? [...argv] : ['nsenter', `--net=${netnsPath(netns)}`, '--', ...argv];
}

/** Where `ip netns` keeps the namespace of that name. */
export function netnsPath(name: string): string {
  return `/run/netns/${name}`;
}

/** The outcome whatever the exit code; rejects only when the program cannot be started or does not end in time. */
export async function runProgram(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [file = '', ...args] = inNetns(options.netns, argv);
  const child = spawn(file, args, {
    env: options.env ?? process.env,
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: options.timeout ?? 30_000,
    killSignal: 'SIGKILL',
  });
  const { promise, resolve, reject } = Promise.withResolvers<RunResult>();
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (stdout.length > MAX_OUTPUT) child.kill('SIGKILL');
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (stderr.length < MAX_OUTPUT) stderr += text;
  });
  child.on('error', (error) =>
    reject(new MeshError('missing_capability', `${file} cannot be run: ${error.message}`, { cause: error })),
  );
  child.on('close', (code, signal) => {
    if (code === null) reject(new MeshError('internal', `${argv.join(' ')}: ended by ${signal ?? 'a signal'}: ${stderr.trim()}`));
    else resolve({ code, stdout, stderr });
  });
  // A program that ends without reading its input must not end the lab with EPIPE.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  return promise;
}

/** Standard output; a non-zero exit rejects with the command and what it wrote. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await runProgram(argv, options);
  if (result.code === 0) return result.stdout;
  const said = (result.stderr.trim() || result.stdout.trim()).slice(0, 2000);
  throw new MeshError('internal', `${argv.join(' ')} in ${options.netns ?? 'the host'}: exit ${result.code}: ${said}`);
}
