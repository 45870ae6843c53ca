// Two waypoints side by side, ours and a real Envoy, each with the same configuration between ends of its own. All on loopback
// addresses of this process.
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toBinary } from '@bufbuild/protobuf';
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { BootstrapSchema } from '#shared/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts';
import type { Backend } from '#shared/reactor/create.ts';
import { PORT } from '#shared/ports.ts';
import { adsBootstrap } from '../../test/harness/envoy-bootstrap.ts';
import { createTestCa } from '../../test/harness/test-ca.ts';
import { ROOT } from '../path/lab.ts';
import { startControlPlane } from './control-plane.ts';
import type { EndsOptions } from './ends.ts';
import { type Addresses, CLIENT_ID, envoyListeners, GRPC_PORT, HTTP_PORT, POD_ID, resourcesOf, WAYPOINT_ID } from './mesh.ts';
import { type Background, startProcess, untilListening, untilReady } from './processes.ts';
import type { ProxyOptions } from './proxy.ts';

export type Subject = 'culvert' | 'envoy';
export const SUBJECTS: readonly Subject[] = ['culvert', 'envoy'];

const ENVOY = join(ROOT, '.envoy', 'bin', 'envoy');
/** Where the client's ztunnel takes plaintext. */
const ENTRY_PORT = 15_001;

export interface WaypointLab extends AsyncDisposable {
  readonly folder: string;
  /** Process id of the waypoint. */
  pid(subject: Subject): number;
  /** Where a client connects: without a tunnel, through tunnels, for gRPC. */
  target(subject: Subject, route: 'plain' | 'tunnelled' | 'grpc'): HostPort;
  /** Throws when one of the processes has ended. */
  check(): Promise<void>;
}

/** Starts everything; resolves when both waypoints take requests. */
export async function startWaypointLab(backend: Backend, progress: (line: string) => void): Promise<WaypointLab> {
  if (!existsSync(ENVOY)) throw new MeshError('missing_capability', `no Envoy at ${ENVOY}: scripts/setup.sh installs it`);
  await using cleanup = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'culvert-waypoint-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const processes: Background[] = [];
  const start = (name: string, argv: readonly string[]): Background => {
    const process = cleanup.use(startProcess(name, folder, argv));
    processes.push(process);
    return process;
  };
  const node = (program: string, options: object): string[] => [
    process.execPath,
    '--max-semi-space-size=4',
    join(ROOT, 'bench', 'waypoint', program),
    JSON.stringify(options),
  ];
  const places = { culvert: addressesOf(0), envoy: addressesOf(1) };

  const nginx = join(folder, 'nginx.conf');
  await writeFile(nginx, nginxConfig(SUBJECTS.map((subject) => places[subject].pod)));
  const web = start('nginx', ['nginx', '-p', folder, '-c', nginx]);
  const ca = createTestCa();
  const certificate = ca.issue(WAYPOINT_ID);
  const ends = start('ends', node('ends.ts', endsOptions(places, ca)));

  const planeOf = async (subject: Subject): Promise<number> => {
    const resources = resourcesOf(places[subject]);
    const listeners = subject === 'envoy' ? envoyListeners(resources, places.envoy) : resources.listeners;
    return cleanup.use(await startControlPlane({ ...resources, listeners }, progress)).port;
  };
  const ours: ProxyOptions = {
    backend,
    xdsPort: await planeOf('culvert'),
    certificate,
    tunnelsAt: { ip: places.culvert.waypoint, port: PORT.hbone },
    plainAt: [
      { ip: places.culvert.plain, port: HTTP_PORT },
      { ip: places.culvert.grpc, port: GRPC_PORT },
    ],
  };
  const culvert = start('culvert', node('proxy.ts', ours));
  const bootstrap = join(folder, 'envoy.pb');
  await writeFile(bootstrap, toBinary(BootstrapSchema, adsBootstrap(await planeOf('envoy'), certificate)));
  const envoy = start('envoy', [ENVOY, '-c', bootstrap, '-l', 'warning', '--concurrency', '1', '--use-dynamic-base-id']);

  await Promise.all([untilReady(ends), untilReady(culvert), untilListening(web, { ip: places.envoy.pod, port: HTTP_PORT })]);
  await untilListening(envoy, { ip: places.envoy.waypoint, port: PORT.hbone });
  await untilListening(envoy, { ip: places.envoy.grpc, port: GRPC_PORT });
  const held = cleanup.move();
  return {
    folder,
    pid: (subject) => (subject === 'culvert' ? culvert : envoy).pid,
    target: (subject, route) => {
      if (route === 'tunnelled') return entryOf(places[subject]);
      return { ip: places[subject][route], port: route === 'plain' ? HTTP_PORT : GRPC_PORT };
    },
    check: async () => void (await Promise.all(processes.map((process) => process.check()))),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** Loopback addresses that no other process has. */
function addressesOf(index: number): Addresses {
  const ip = (last: number): string => `127.${64 + ((process.pid >> 8) & 0x7f)}.${process.pid & 0xff}.${1 + index * 10 + last}`;
  return { waypoint: ip(0), plain: ip(1), tunnelled: ip(2), grpc: ip(3), pod: ip(4) };
}

function entryOf({ tunnelled }: Addresses): HostPort {
  return { ip: tunnelled, port: ENTRY_PORT };
}

function endsOptions(places: Record<Subject, Addresses>, ca: ReturnType<typeof createTestCa>): EndsOptions {
  const all = SUBJECTS.map((subject) => places[subject]);
  return {
    entries: all.map((at) => ({
      listen: entryOf(at),
      waypoint: { ip: at.waypoint, port: PORT.hbone },
      to: { ip: at.tunnelled, port: HTTP_PORT },
    })),
    client: ca.issue(CLIENT_ID),
    waypointId: WAYPOINT_ID,
    pod: ca.issue(POD_ID),
    exits: all.map(({ pod }) => ({ ip: pod, port: PORT.hbone })),
    grpc: all.map(({ pod }) => ({ ip: pod, port: GRPC_PORT })),
  };
}

function nginxConfig(addresses: readonly string[]): string {
  return `daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events { worker_connections 8192; multi_accept on; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
${addresses.map((ip) => `    listen ${ip}:${HTTP_PORT} backlog=4096;`).join('\n')}
    location / { return 200 "an answer of a size that services like to give to each other\\n"; }
  }
}
`;
}
