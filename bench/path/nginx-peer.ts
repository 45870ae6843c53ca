// TCP proxies in C that do nothing but copy, between pods that are not enrolled: nginx with its stream module, one or two in a row. They are a measure
// of what a hop costs on the machine at all: no TLS, HTTP/2, policy, metrics or log, and no redirect.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MeshError } from '#shared/errors.ts';
import type { PathLab } from './lab.ts';
import { HTTP_PORT, IPERF_PORT } from './topology.ts';

/** Debian's libnginx-mod-stream. */
export const STREAM_MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so';
const START_TIMEOUT = 5000;

/** In the pod of the client: to the other node through a second one there, to the other node at once, and within the node. */
const ENTRIES = {
  'nginx-pair': { http: 19_101, iperf: 19_102 },
  nginx: { http: 19_103, iperf: 19_104 },
  'nginx-near': { http: 19_105, iperf: 19_106 },
} as const;
/** In the pod on the other node. */
const EXIT = { http: 19_108, iperf: 19_109 };

export type NginxRoute = keyof typeof ENTRIES;

export interface NginxHops extends AsyncDisposable {
  /** Process ids on this way. */
  pids(route: NginxRoute): readonly number[];
  /** Where the client's pod dials. */
  via(route: NginxRoute): { readonly ip: string; readonly port: number; readonly iperfPort: number };
}

export async function startNginxHops(lab: PathLab): Promise<NginxHops> {
  await using cleanup = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'culvert-bench-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const [client, near, far] = [lab.pod('plain', 'client'), lab.pod('plain', 'near'), lab.pod('plain', 'far')];
  const exit = await start(join(folder, 'exit.conf'), far.pid, [
    [EXIT.http, `127.0.0.1:${HTTP_PORT}`],
    [EXIT.iperf, `127.0.0.1:${IPERF_PORT}`],
  ]);
  cleanup.defer(exit.stop);
  const entry = await start(join(folder, 'entry.conf'), client.pid, [
    [ENTRIES['nginx-pair'].http, `${far.ip}:${EXIT.http}`],
    [ENTRIES['nginx-pair'].iperf, `${far.ip}:${EXIT.iperf}`],
    [ENTRIES.nginx.http, `${far.ip}:${HTTP_PORT}`],
    [ENTRIES.nginx.iperf, `${far.ip}:${IPERF_PORT}`],
    [ENTRIES['nginx-near'].http, `${near.ip}:${HTTP_PORT}`],
    [ENTRIES['nginx-near'].iperf, `${near.ip}:${IPERF_PORT}`],
  ]);
  cleanup.defer(entry.stop);
  const held = cleanup.move();
  return {
    pids: (route) => (route === 'nginx-pair' ? [entry.pid, exit.pid] : [entry.pid]),
    via: (route) => ({ ip: '127.0.0.1', port: ENTRIES[route].http, iperfPort: ENTRIES[route].iperf }),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** One process, in the network of `pid` alone; resolves when it listens. */
async function start(file: string, pid: number, hops: readonly [number, string][]) {
  await writeFile(file, configOf(hops));
  const argv = ['--target', String(pid), '--net', '--', 'nginx', '-p', join(file, '..'), '-c', file];
  const child = spawn('nsenter', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said = `${said}${text}`.slice(-500)));
  const gone = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await gone;
  };
  const ended = gone.then(() => {
    throw new MeshError('internal', `nginx as a TCP proxy did not start: ${said.trim()}`);
  });
  ended.catch(() => undefined);
  const port = hops[0]?.[0] ?? 0;
  const argvOfProbe = [
    '--target',
    String(pid),
    '--net',
    '--',
    'curl',
    '-s',
    '-o',
    '/dev/null',
    '-m',
    '1',
    `http://127.0.0.1:${port}/`,
  ];
  for (const end = performance.now() + START_TIMEOUT; ; await Promise.race([sleep(50), ended])) {
    const [code] = (await once(spawn('nsenter', argvOfProbe, { stdio: 'ignore' }), 'exit')) as [number | null];
    if (code === 0) return { pid: child.pid ?? 0, stop };
    if (performance.now() < end) continue;
    await stop();
    throw new MeshError('internal', `nginx as a TCP proxy does not answer on ${port}: ${said.trim()}`);
  }
}

function configOf(hops: readonly [number, string][]): string {
  const servers = hops.map(([port, to]) => `  server { listen ${port} backlog=4096; proxy_pass ${to}; }`).join('\n');
  return `load_module ${STREAM_MODULE};
daemon off;
master_process off;
pid nginx-${hops[0]?.[0]}.pid;
error_log stderr crit;
worker_rlimit_nofile 65536;
events { worker_connections 32768; multi_accept on; }
stream {
  tcp_nodelay on;
  proxy_buffer_size 256k;
${servers}
}
`;
}
