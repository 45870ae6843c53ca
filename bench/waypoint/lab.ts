// Two waypoints side by side, ours and a real Envoy, each with the same configuration, between clients and servers in network namespaces
// of their own (net.ts).
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toBinary } from '@bufbuild/protobuf';
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { BootstrapSchema } from '#shared/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts';
import type { Backend } from '#shared/reactor/create.ts';
import { PORT } from '#shared/ports.ts';
import { inNetns } from '../../cli/lab/run.ts';
import { adsBootstrap } from '../../test/harness/envoy-bootstrap.ts';
import { createTestCa } from '../../test/harness/test-ca.ts';
import { ROOT } from '../path/lab.ts';
import type { EndsOptions } from './ends.ts';
import { type Addresses, CLIENT_ID, GRPC_PORT, HTTP_PORT, POD_ID, WAYPOINT_ID } from './mesh.ts';
import { addressAt, type Place, startWaypointNet, waypointAddress } from './net.ts';
import type { PlaneOptions } from './plane.ts';
import { type Background, startProcess, untilListening, untilReady } from './processes.ts';
import type { ProxyOptions } from './proxy.ts';

export type Subject = 'culvert' | 'envoy';
export const SUBJECTS: readonly Subject[] = ['culvert', 'envoy'];
export type WaypointRoute = 'plain' | 'tunnelled' | 'grpc';

const ENVOY = join(ROOT, '.envoy', 'bin', 'envoy');
/** Of the control planes, in the waypoints' namespace. */
const XDS_PORTS = { culvert: 18_001, envoy: 18_002 };

export interface WaypointLab extends AsyncDisposable {
  readonly folder: string;
  /** Process id of the waypoint. */
  pid(subject: Subject): number;
  /** Where a client connects: without a tunnel, through tunnels, for gRPC. */
  target(subject: Subject, route: WaypointRoute): HostPort;
  /** The network namespace of the clients of a route. */
  clientsOf(route: WaypointRoute): string;
  /** Throws when one of the processes has ended. */
  check(): Promise<void>;
}

/** Starts everything; resolves when both waypoints take requests. */
export async function startWaypointLab(backend: Backend): Promise<WaypointLab> {
  if (!existsSync(ENVOY)) throw new MeshError('missing_capability', `no Envoy at ${ENVOY}: scripts/setup.sh installs it`);
  await using cleanup = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'culvert-waypoint-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const places = { culvert: addressesOf(0), envoy: addressesOf(1) };
  const all = SUBJECTS.map((subject) => places[subject]);
  const { netns } = cleanup.use(
    await startWaypointNet(
      all.flatMap(({ waypoint, plain, grpc }) => [waypoint, plain, grpc]),
      { server: all.map(({ pod }) => pod), 'outside-server': all.map(({ outsidePod }) => outsidePod) },
    ),
  );
  const processes: Background[] = [];
  const start = (name: string, place: Place | 'waypoint', argv: readonly string[]): Background => {
    const process = cleanup.use(startProcess(name, folder, inNetns(netns(place), argv)));
    processes.push(process);
    return process;
  };
  const node = (program: string, options: object): string[] => [
    process.execPath,
    '--max-semi-space-size=4',
    join(ROOT, 'bench', 'waypoint', program),
    JSON.stringify(options),
  ];

  const ca = createTestCa();
  const ends = endsOptions(places, ca).map(([place, options]) => start(`${options.kind}-end`, place, node('ends.ts', options)));
  const webs: Promise<void>[] = [];
  for (const [place, pods] of [
    ['server', all.map(({ pod }) => pod)],
    ['outside-server', all.map(({ outsidePod }) => outsidePod)],
  ] as const) {
    const file = join(folder, `nginx-${place}.conf`);
    await writeFile(file, nginxConfig(place, pods));
    const web = start(`nginx-${place}`, place, ['nginx', '-p', folder, '-c', file]);
    webs.push(untilListening(web, netns(place), { ip: pods[0] ?? '', port: HTTP_PORT }));
  }
  const planes = SUBJECTS.map((subject) => {
    const options: PlaneOptions = { port: XDS_PORTS[subject], addresses: places[subject], envoy: subject === 'envoy' };
    return start(`plane-${subject}`, 'waypoint', node('plane.ts', options));
  });
  await Promise.all([...webs, ...[...ends, ...planes].map(untilReady)]);

  const certificate = ca.issue(WAYPOINT_ID);
  const ours: ProxyOptions = {
    backend,
    xdsPort: XDS_PORTS.culvert,
    certificate,
    tunnelsAt: { ip: places.culvert.waypoint, port: PORT.hbone },
    plainAt: [
      { ip: places.culvert.plain, port: HTTP_PORT },
      { ip: places.culvert.grpc, port: GRPC_PORT },
    ],
  };
  const culvert = start('culvert', 'waypoint', node('proxy.ts', ours));
  const bootstrap = join(folder, 'envoy.pb');
  await writeFile(bootstrap, toBinary(BootstrapSchema, adsBootstrap(XDS_PORTS.envoy, certificate)));
  const flags = ['-l', 'warning', '--concurrency', '1', '--use-dynamic-base-id'];
  const envoy = start('envoy', 'waypoint', [ENVOY, '-c', bootstrap, ...flags]);
  await untilReady(culvert);
  for (const at of [
    { ip: places.envoy.waypoint, port: PORT.hbone },
    { ip: places.envoy.grpc, port: GRPC_PORT },
  ])
    await untilListening(envoy, netns('waypoint'), at);
  const held = cleanup.move();
  return {
    folder,
    pid: (subject) => (subject === 'culvert' ? culvert : envoy).pid,
    target: (subject, route) => ({ ip: places[subject][route], port: route === 'grpc' ? GRPC_PORT : HTTP_PORT }),
    clientsOf: (route) => netns(route === 'tunnelled' ? 'client' : 'outside-client'),
    check: async () => void (await Promise.all(processes.map((process) => process.check()))),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** Nobody has the address of the tunnelled service: connections to it are redirected. */
function addressesOf(index: number): Addresses {
  const own = (last: number): string => waypointAddress(10 * (index + 1) + last);
  return {
    waypoint: own(0),
    plain: own(1),
    tunnelled: own(2),
    grpc: own(3),
    pod: addressAt('server', 11 + index),
    outsidePod: addressAt('outside-server', 11 + index),
  };
}

function endsOptions(places: Record<Subject, Addresses>, ca: ReturnType<typeof createTestCa>): [Place, EndsOptions][] {
  const all = SUBJECTS.map((subject) => places[subject]);
  const waypoints = Object.fromEntries(
    all.map(({ tunnelled, waypoint }) => [
      formatHostPort({ ip: tunnelled, port: HTTP_PORT }),
      { ip: waypoint, port: PORT.hbone },
    ]),
  );
  const exits = all.map(({ pod }) => ({ ip: pod, port: PORT.hbone }));
  return [
    ['client', { kind: 'entry', certificate: ca.issue(CLIENT_ID), waypointId: WAYPOINT_ID, waypoints }],
    ['server', { kind: 'exit', certificate: ca.issue(POD_ID), at: exits }],
    ['outside-server', { kind: 'grpc', at: all.map(({ outsidePod }) => ({ ip: outsidePod, port: GRPC_PORT })) }],
  ];
}

function nginxConfig(name: string, addresses: readonly string[]): string {
  return `daemon off;
user root;
worker_processes 1;
pid nginx-${name}.pid;
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
