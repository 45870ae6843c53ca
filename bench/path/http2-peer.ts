// The node:http2 pair between the two pods that are not enrolled: started in them, stopped at the end.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../cli/lab/run.ts';
import { startInPod } from './inpod/start.ts';
import { ROOT } from './lab.ts';
import type { PathLab } from './lab.ts';
import { HTTP_PORT } from './topology.ts';

const ENTRY_PORT = 19_001;
const EXIT_PORT = 19_008;
const PROGRAM = join(ROOT, 'bench', 'peers', 'http2-connect.ts');

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
  const exit = cleanup.use(await startInPod(far.pid, PROGRAM, [pem, 'exit', String(EXIT_PORT), String(HTTP_PORT)]));
  const { pid } = lab.pod('plain', 'client');
  const entry = cleanup.use(await startInPod(pid, PROGRAM, [pem, 'entry', String(ENTRY_PORT), far.ip, String(EXIT_PORT)]));
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
