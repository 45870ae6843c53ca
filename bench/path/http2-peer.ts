// The node:http2 pair between the two pods that are not enrolled: started in them, stopped at the end.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { MeshError } from '#shared/errors.ts';
import { run } from '../../cli/lab/run.ts';
import { ROOT } from './lab.ts';
import type { PathLab } from './lab.ts';
import { HTTP_PORT } from './topology.ts';

const ENTRY_PORT = 19_001;
const EXIT_PORT = 19_008;

export interface Http2Pair extends AsyncDisposable {
  readonly pids: readonly number[];
  /** Where the client's pod dials. */
  readonly via: { readonly ip: string; readonly port: number };
}

export async function startHttp2Pair(lab: PathLab): Promise<Http2Pair> {
  await using cleanup = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'culvert-bench-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const pem = await selfSigned(folder);
  const far = lab.pod('plain', 'far');
  const exit = await start(far.pid, [pem, 'exit', String(EXIT_PORT), String(HTTP_PORT)]);
  cleanup.defer(() => stop(exit.child));
  const entry = await start(lab.pod('plain', 'client').pid, [pem, 'entry', String(ENTRY_PORT), far.ip, String(EXIT_PORT)]);
  cleanup.defer(() => stop(entry.child));
  const held = cleanup.move();
  return {
    pids: [exit.pid, entry.pid],
    via: { ip: '127.0.0.1', port: ENTRY_PORT },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** A file with a P-256 key and its certificate, as ours have. */
async function selfSigned(folder: string): Promise<string> {
  const key = join(folder, 'key.pem');
  const certificate = join(folder, 'cert.pem');
  const pem = join(folder, 'both.pem');
  const kind = [
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=peer',
  ];
  await run(['openssl', 'req', ...kind, '-keyout', key, '-out', certificate]);
  await writeFile(pem, (await readFile(key, 'utf8')) + (await readFile(certificate, 'utf8')));
  return pem;
}

/** Only the network is the pod's: so the process is a child of ours, and its id is one that we can read. */
async function start(pid: number, args: readonly string[]): Promise<{ child: ChildProcess; pid: number }> {
  const program = join(ROOT, 'bench', 'peers', 'http2-connect.ts');
  const child = spawn('nsenter', ['--target', String(pid), '--net', '--', process.execPath, program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const line = await Promise.race([once(createInterface(child.stdout), 'line'), once(child, 'exit')]);
  if (line[0] !== 'ready' || child.pid === undefined)
    throw new MeshError('internal', `the node:http2 peer (${args.join(' ')}) did not start: ${String(line[0])}`);
  return { child, pid: child.pid };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
