// What a waypoint costs with its tunnels on the main thread, in one and in two data workers, and how evenly workers share connections:
// `node bench/micro/waypoint-workers.ts [ROUNDS] [SECONDS]`. Needs wrk and nginx. Four clients' ztunnels, one connection each, four
// requests at a time on each; all on the same machine.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { acceptTcp, listenTcp } from '#shared/os/socket-factory.ts';
import { closeFd } from '#shared/os/netns.ts';
import { PORT } from '#shared/ports.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { createTestCa } from '../../test/harness/test-ca.ts';
import { buildApp } from '../../waypoint/app.ts';
import { loadConfig } from '../../waypoint/config.ts';
import { LogLines } from '../../waypoint/telemetry/log-lines.ts';
import { median, medians } from '../statistics.ts';
import { startControlPlane } from '../waypoint/control-plane.ts';
import { CLIENT_ID, HTTP_PATH, HTTP_PORT, NAMESPACE, POD_ID, resourcesOf, WAYPOINT_ID } from '../waypoint/mesh.ts';
import { startProcess, untilReady } from '../waypoint/processes.ts';
import type { Ends } from './waypoint-workers-ends.ts';

const WAYS = ['main', '1', '2'] as const;
const CLIENTS = 4;
const TRIALS = 300;

interface Subject {
  readonly workers: string;
  readonly xdsPort: number;
  readonly hbonePort: number;
  readonly certificate: WorkloadCertificate;
}

const [first = '3', seconds = '3'] = process.argv.slice(2);
if (first.startsWith('{')) await serve(JSON.parse(first) as Subject);
else await measure(Number(first), Number(seconds));

/** The waypoint itself, in a process of its own. */
async function serve({ workers, xdsPort, hbonePort, certificate }: Subject): Promise<void> {
  const env: Record<string, string> = {
    POD_NAME: 'waypoint-0',
    POD_NAMESPACE: NAMESPACE,
    SERVICE_ACCOUNT: 'waypoint',
    INSTANCE_IP: '127.0.0.1',
    XDS_ADDRESS: `http://127.0.0.1:${xdsPort}`,
    ...Object.fromEntries(['ADMIN_PORT', 'METRICS_PORT', 'READY_PORT'].map((name) => [name, '0'])),
    HBONE_PORT: String(hbonePort),
    WAYPOINT_WORKER_THREADS: workers,
  };
  const app = await buildApp(
    loadConfig((name) => env[name]),
    {
      logging: new Logging({ level: 'warn' }),
      accessLog: new LogLines(systemClock, () => undefined),
      certificates: { get: async () => certificate },
    },
  );
  while (!app.readiness.ready) await new Promise((resolve) => setTimeout(resolve, 20));
  process.stderr.write('ready\n');
}

async function measure(rounds: number, time: number): Promise<void> {
  for (const workers of [2, 4])
    for (const connections of [4, 8, 16]) process.stdout.write(`${await kernelSpread(workers, connections)}\n`);
  await using cleanup = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'culvert-waypoint-workers-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const ip = (last: number): string => `127.${64 + ((process.pid >> 8) & 0x7f)}.${process.pid & 0xff}.${last}`;
  const places = { waypoint: ip(1), plain: ip(2), tunnelled: ip(3), grpc: ip(4), pod: ip(5), outsidePod: ip(6) };
  const config = `daemon off; pid nginx.pid; error_log stderr error; events { } http { access_log off; keepalive_requests 100000000;
    server { listen ${places.pod}:${HTTP_PORT}; location / { return 200 "an answer of a size that services like\\n"; } } }`;
  await writeFile(join(folder, 'nginx.conf'), config);
  cleanup.use(startProcess('nginx', folder, ['nginx', '-p', folder, '-c', join(folder, 'nginx.conf')]));
  const plane = cleanup.use(await startControlPlane(resourcesOf(places), 0, () => undefined));
  const ca = createTestCa();
  const subjects = [];
  for (const [index, workers] of WAYS.entries()) {
    const hbonePort = await freePort();
    const subject: Subject = { workers, xdsPort: plane.port, hbonePort, certificate: ca.issue(WAYPOINT_ID) };
    const flags = ['--max-semi-space-size=16', '--no-allocation-site-pretenuring'];
    const own = cleanup.use(
      startProcess(`waypoint-${workers}`, folder, [process.execPath, ...flags, import.meta.filename, JSON.stringify(subject)]),
    );
    await untilReady(own);
    const options: Ends = {
      entries: Array.from({ length: CLIENTS }, (_, client) => ({ ip: ip(10 + 10 * index + client), port: HTTP_PORT })),
      waypoint: { ip: '127.0.0.1', port: hbonePort },
      to: { ip: places.tunnelled, port: HTTP_PORT },
      client: ca.issue(CLIENT_ID),
      exit: index === 0 ? { ip: places.pod, port: PORT.hbone } : undefined,
      pod: ca.issue(POD_ID),
    };
    const program = join(import.meta.dirname, 'waypoint-workers-ends.ts');
    await untilReady(cleanup.use(startProcess(`ends-${workers}`, folder, [process.execPath, program, JSON.stringify(options)])));
    subjects.push({ workers, pid: own.pid, entries: options.entries, samples: [] as Record<string, number>[] });
  }
  // The first round warms up.
  for (let round = 0; round <= rounds; round++)
    for (const { pid, entries, samples } of round % 2 === 0 ? subjects : subjects.toReversed()) {
      const before = await threadTimes(pid);
      const results = await Promise.all(entries.map((entry) => wrk(`http://${entry.ip}:${entry.port}${HTTP_PATH}`, time)));
      const after = await threadTimes(pid);
      const took = [...after].map(([thread, cpu]) => cpu - (before.get(thread) ?? 0)).sort((a, b) => b - a);
      const requests = results.reduce((sum, result) => sum + result.requests, 0);
      const rss = Number(/^VmRSS:\s+(\d+)/mu.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
      const [busiest = 0, second = 0] = took;
      const sample = {
        rps: requests / time,
        cpu: took.reduce((sum, cpu) => sum + cpu, 0) / 1000 / requests,
        p99: Math.max(...results.map(({ p99 }) => p99)),
        share: (busiest / (busiest + second)) * 100,
        rss,
      };
      if (round > 0) samples.push(sample);
    }
  for (const { workers, samples } of subjects) {
    const { rps = NaN, cpu = NaN, p99 = NaN, share = NaN, rss = NaN } = medians(samples);
    process.stdout.write(
      `${workers.padEnd(4)} ${rps.toFixed(0)} requests/s, ${cpu.toFixed(1)} us CPU each, p99 ${p99.toFixed(1)} ms, busiest of the two busiest threads ${share.toFixed(0)} %, ${rss.toFixed(0)} MB\n`,
    );
  }
}

/** How SO_REUSEPORT alone shares: what the busiest of the sockets gets. */
async function kernelSpread(workers: number, connections: number): Promise<string> {
  const sockets = [listenTcp({ address: { ip: '127.0.0.1', port: 0 }, reusePort: true })];
  const address = { ip: '127.0.0.1', port: sockets[0]?.address.port ?? 0 };
  while (sockets.length < workers) sockets.push(listenTcp({ address, reusePort: true }));
  const most: number[] = [];
  for (let trial = 0; trial < TRIALS; trial++) {
    const clients = Array.from({ length: connections }, () => connect(address.port, address.ip));
    await Promise.all(clients.map((client) => once(client, 'connect')));
    const taken = sockets.map(({ fd }) => {
      let count = 0;
      for (let socket = acceptTcp(fd); socket; socket = acceptTcp(fd), count++) closeFd(socket.fd);
      return count;
    });
    most.push(Math.max(...taken));
    for (const client of clients) client.destroy();
  }
  for (const { fd } of sockets) closeFd(fd);
  const fair = Math.ceil(connections / workers);
  const uneven = most.filter((count) => count > fair).length / TRIALS;
  return `SO_REUSEPORT, ${connections} connections to ${workers} workers: the busiest has ${median(most)} (evenly: ${fair}), more than its share in ${(uneven * 100).toFixed(0)} % of ${TRIALS} trials`;
}

async function wrk(url: string, time: number): Promise<{ requests: number; p99: number }> {
  const child = spawn('wrk', ['-t1', '-c4', `-d${time}s`, '--latency', url], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => void (text += chunk.toString()));
  await once(child, 'close');
  if (text.includes('Non-2xx')) throw new MeshError('internal', `${url}: ${text}`);
  const [, amount = '0', unit = 'ms'] = /99%\s+([\d.]+)(us|ms|s)/u.exec(text) ?? [];
  const p99 = Number(amount) * { us: 0.001, ms: 1, s: 1000 }[unit as 'us' | 'ms' | 's'];
  return { requests: Number(/(\d+) requests in/u.exec(text)?.[1] ?? 0), p99 };
}

/** Nanoseconds on a CPU, by thread. */
async function threadTimes(pid: number): Promise<Map<string, number>> {
  const times = new Map<string, number>();
  for (const thread of await readdir(`/proc/${pid}/task`))
    times.set(thread, Number((await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')).split(' ')[0]));
  return times;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}
