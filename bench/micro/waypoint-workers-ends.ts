// What stands around the waypoint of bench/micro/waypoint-workers.ts: clients' ztunnels, one at each entry with a connection of its own, and
// a pod's ztunnel. `waypoint-workers-ends.ts JSON` (Ends) prints `ready` on standard error.
import { systemClock } from '#shared/clock.ts';
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import { parseAuthority } from '#shared/hbone/authority.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { relay } from '#shared/hbone/relay.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { WAYPOINT_ID } from '../waypoint/mesh.ts';

export interface Ends {
  readonly entries: readonly HostPort[];
  readonly waypoint: HostPort;
  /** Where the clients mean to go. */
  readonly to: HostPort;
  readonly client: WorkloadCertificate;
  /** Where the pod's ztunnel ends tunnels, if it is one. */
  readonly exit: HostPort | undefined;
  readonly pod: WorkloadCertificate;
}

const { entries, waypoint, to, client, exit, pod } = JSON.parse(process.argv[2] ?? '') as Ends;
const reactor = createReactor({ backend: 'native' });
const headers = [['baggage', 'k8s.namespace.name=bench,k8s.pod.name=client']] as const;
for (const address of entries) {
  const pool = new ConnectionPool({ reactor, certificates: { get: async () => client }, clock: systemClock });
  const peer = { source: client.identity, accepted: [WAYPOINT_ID], to: waypoint, sourceIp: '127.0.0.1' };
  await reactor.listen({ address }, (conn) => {
    pool.open({ peer, authority: formatHostPort(to), headers, socket: {} }).then(
      ({ stream }) => void relay(conn, stream),
      () => conn.reset(),
    );
  });
}
if (exit)
  await reactor.listen({ address: exit }, (conn) => {
    reactor.tlsServer(conn, { certificate: pod, alpn: ['h2'], verifyPeer: () => undefined }).then(
      (tls) =>
        void serveHbone(tls, { reactor, clock: systemClock, maxStreams: 1000 }, (tunnel) => {
          const target = parseAuthority(tunnel.authority);
          if (target?.kind !== 'ip') return tunnel.refuse(400);
          reactor.connect({ to: target.address }).then(
            (upstream) => void relay(tunnel.accept([]), upstream),
            () => tunnel.refuse(503),
          );
        }),
      () => conn.reset(),
    );
  });
process.stderr.write('ready\n');
