// What stands before and behind the measured waypoint: a client's ztunnel that opens a tunnel for each redirected connection, a pod's ztunnel
// that ends tunnels, or a gRPC-like server; each in a process and network namespace of its own. Its CPU is not counted. `ends.ts JSON`
// (EndsOptions) prints `ready` on standard error.
import { systemClock } from '#shared/clock.ts';
import { formatHostPort, type HostPort } from '#shared/address.ts';
import { parseAuthority } from '#shared/hbone/authority.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { relay } from '#shared/hbone/relay.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { Reactor } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { PORT } from '#shared/ports.ts';
import { ZTUNNEL_MARK } from '../../cni/rules/constants.ts';

export type EndsOptions =
  | {
      readonly kind: 'entry';
      readonly certificate: WorkloadCertificate;
      readonly waypointId: SpiffeId;
      /** Where a client may mean to go, IP:PORT, and the waypoint of it. */
      readonly waypoints: Record<string, HostPort>;
    }
  /** `at`: where pods end tunnels. */
  | { readonly kind: 'exit'; readonly certificate: WorkloadCertificate; readonly at: readonly HostPort[] }
  | { readonly kind: 'grpc'; readonly at: readonly HostPort[] };

const ANSWER = Buffer.from([0, 0, 0, 0, 32, ...Buffer.alloc(32, 'x')]);
const MAX_STREAMS = 1000;

/** The redirect rules let pass what carries it. */
const OWN = { mark: Number(ZTUNNEL_MARK) };

const options = JSON.parse(process.argv[2] ?? '') as EndsOptions;
const reactor = createReactor({ backend: 'native' });
if (options.kind === 'entry') await listenEntry(reactor, options);
else
  for (const at of options.at)
    await (options.kind === 'exit' ? listenExit(reactor, at, options.certificate) : listenGrpc(reactor, at));
process.stderr.write('ready\n');

/** The outbound ztunnel: what was redirected in, a tunnel out. */
async function listenEntry(
  on: Reactor,
  { certificate, waypointId, waypoints }: Extract<EndsOptions, { kind: 'entry' }>,
): Promise<void> {
  const pool = new ConnectionPool({ reactor: on, certificates: { get: async () => certificate }, clock: systemClock });
  const headers = [['baggage', 'k8s.namespace.name=bench,k8s.pod.name=client']] as const;
  await on.listen({ address: { ip: '0.0.0.0', port: PORT.outbound } }, (conn) => {
    const authority = formatHostPort(conn.originalDestination());
    const to = waypoints[authority];
    if (!to) return conn.reset();
    const peer = { source: certificate.identity, accepted: [waypointId], to, sourceIp: conn.remote.ip };
    pool.open({ peer, authority, headers, socket: OWN }).then(
      ({ stream }) => void relay(conn, stream),
      () => conn.reset(),
    );
  });
}

/** The inbound ztunnel: a tunnel in, plaintext out. */
async function listenExit(on: Reactor, at: HostPort, certificate: WorkloadCertificate): Promise<void> {
  await on.listen({ address: at }, (conn) => {
    on.tlsServer(conn, { certificate, alpn: ['h2'], verifyPeer: () => undefined }).then(
      (tls) =>
        void serveHbone(tls, { reactor: on, clock: systemClock }, (tunnel) => {
          const target = parseAuthority(tunnel.authority);
          if (target?.kind !== 'ip') return tunnel.refuse(400);
          on.connect({ ...OWN, to: target.address }).then(
            (upstream) => void relay(tunnel.accept([]), upstream),
            () => tunnel.refuse(503),
          );
        }),
      () => conn.reset(),
    );
  });
}

/** Answers each request at once: a message, then `grpc-status: 0` in trailers. */
async function listenGrpc(on: Reactor, at: HostPort): Promise<void> {
  const answer = (stream: Http2Stream): void => {
    stream.respond(200, [['content-type', 'application/grpc']]);
    stream.write(ANSWER);
    stream.endWith([['grpc-status', '0']]);
  };
  await on.listen({ address: at }, (conn) => {
    const session = new Http2Session(conn, {
      role: 'server',
      clock: systemClock,
      defer: (task) => on.defer(task),
      settings: { maxStreams: MAX_STREAMS },
      onStream: (stream) =>
        stream.start({
          onData: () => undefined,
          onEnd: () => answer(stream),
          onDrain: () => undefined,
          onClose: () => undefined,
        }),
    });
    void session;
  });
}
