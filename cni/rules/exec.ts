// Runs a program inside a network namespace. The namespace is handed down as an open descriptor, so that it cannot be swapped for
// another one between look-up and use.
import { spawn } from 'node:child_process';
import { MeshError } from '#shared/errors.ts';

export interface ExecResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** Where nft, ip and nsenter are found; not the caller's PATH, which a kubelet or a service manager may have cut short. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const TIMEOUT = 10_000;
const MAX_OUTPUT = 1 << 20;

/** Runs `command` with `stdin` in the namespace of the descriptor, or in this process's own when undefined. */
export async function execInNetns(netns: number | undefined, command: readonly string[], stdin = ''): Promise<ExecResult> {
  const argv = netns === undefined ? command : ['nsenter', '--net=/proc/self/fd/3', '--', ...command];
  const result = await run(argv, netns, stdin);
  if (result.code === 127)
    throw new MeshError('missing_capability', `${command[0]} is not installed in ${PATH}: ${result.stderr.trim()}`);
  if (/reassociate to namespace|setns/u.test(result.stderr))
    throw new MeshError(
      'missing_capability',
      `cannot enter the network namespace: ${result.stderr.trim()}; the agent needs CAP_SYS_ADMIN and a descriptor of a namespace`,
    );
  return result;
}

function run(argv: readonly string[], netns: number | undefined, stdin: string): Promise<ExecResult> {
  const [program = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { PATH, LC_ALL: 'C' },
      stdio: ['pipe', 'pipe', 'pipe', ...(netns === undefined ? [] : [netns])],
      timeout: TIMEOUT,
      killSignal: 'SIGKILL',
    });
    const output = { stdout: '', stderr: '' };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      if (output.stdout.length < MAX_OUTPUT) output.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (output.stderr.length < MAX_OUTPUT) output.stderr += text;
    });
    child.on('error', (cause) =>
      reject(new MeshError('missing_capability', `cannot run ${program} (searched in ${PATH}): ${cause.message}`, { cause })),
    );
    child.on('close', (code, signal) => {
      if (signal !== null) reject(new MeshError('internal', `${argv.join(' ')} was ended by ${signal} (limit ${TIMEOUT} ms)`));
      else resolve({ code: code ?? 1, ...output });
    });
    // A program that ends before it has read everything says why on stderr; the broken pipe adds nothing.
    child.stdin?.on('error', () => {});
    child.stdin?.end(stdin);
  });
}
