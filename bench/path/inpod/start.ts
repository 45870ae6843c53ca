// Programs of the benchmark in the network of a pod: only the network is the pod's, so that the process is a child of ours, its id is one
// that we can read, and it needs nothing of the pod's file system.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { MeshError } from '#shared/errors.ts';

export interface InPod extends AsyncDisposable {
  readonly pid: number;
  /** The next line that it prints; rejects when it ends first. */
  line(): Promise<string>;
  signal(name: NodeJS.Signals): void;
}

/** Starts a TypeScript program in the network of the process `pid`; resolves when it has printed `ready`. Disposing kills it. */
export async function startInPod(pid: number, program: string, args: readonly string[] = []): Promise<InPod> {
  const child = spawn('nsenter', ['--target', String(pid), '--net', '--', process.execPath, program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const what = `${basename(program)} ${args.join(' ')}`.trim();
  const line = async (): Promise<string> => {
    const next = await lines.next();
    if (next.done === true) throw new MeshError('internal', `${what} ended before it had said what it should`);
    return next.value;
  };
  const running = {
    pid: child.pid ?? 0,
    line,
    signal: (name: NodeJS.Signals) => void child.kill(name),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
  await using guard = new AsyncDisposableStack();
  guard.use(running);
  const first = await line();
  if (first !== 'ready') throw new MeshError('internal', `${what} did not start: ${first}`);
  guard.move();
  return running;
}
