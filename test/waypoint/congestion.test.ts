// TUNNEL_CONGESTION_CONTROL of a waypoint: tunnels in and out, as the kernel has them (decision 0025).
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'tap';
import { AppProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import { formatHostPort } from '#shared/address.ts';
import { spiffeId } from '#shared/ids.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { waypointResources } from '../../controlplane/translate/envoy/waypoint.ts';
import { aMesh, aScope, aService, aWorkload } from '../controlplane/translate/envoy/mesh.ts';
import { endTunnels, ownAddress, startWaypoint } from '../harness/waypoint-lab.ts';

const VIP = '10.96.0.1';
const backend = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });

for (const workers of ['main', '1'])
  test(`what was asked for, with workers: ${workers}`, { timeout: 30_000 }, async (t) => {
    const ip = ownAddress();
    const echo = aService({ name: 'echo', vip: VIP, ports: [{ port: 7, target: 7007, protocol: AppProtocol.TCP }] });
    const resources = waypointResources(
      aMesh({ services: [echo], policies: [], workloads: [aWorkload({ name: 'e', ip, service: echo })] }),
      aScope({ services: [echo] }),
    );
    const lab = await startWaypoint(t, 'native', resources, undefined, workers, { TUNNEL_CONGESTION_CONTROL: 'reno' });
    const server = net.createServer((socket) => void socket.on('error', () => undefined).pipe(socket)).listen(7007, ip);
    await once(server, 'listening');
    t.teardown(() => server.close());
    const reactor = createReactor();
    t.teardown(() => reactor.close());
    await endTunnels(reactor, lab.certificates, ip, backend);
    const socket = await lab.connect(`${VIP}:7`);
    socket.write('x');
    await once(socket, 'data');
    const shown = (...filter: string[]): string =>
      execFileSync('ss', ['-tinOH', 'state', 'established', ...filter], { encoding: 'utf8' });
    t.match(shown('src', formatHostPort(lab.at)), / reno /u, 'the tunnel that it accepted');
    t.match(shown('dst', `${ip}:15008`), / reno /u, 'the tunnel that it opened');
    socket.destroy();
  });

test('a name that the kernel does not have stops the start', { timeout: 30_000 }, async (t) => {
  const resources = waypointResources(aMesh({ services: [], policies: [], workloads: [] }), aScope({ services: [] }));
  const started = startWaypoint(t, 'native', resources, undefined, 'main', { TUNNEL_CONGESTION_CONTROL: 'vegas2' });
  await t.rejects(started, { code: 'invalid_config', message: /TUNNEL_CONGESTION_CONTROL=vegas2/u });
});
