// What stands before and behind the measured waypoint: a client's ztunnel that opens a tunnel for each connection, a pod's ztunnel that
// ends tunnels, and a gRPC-like server. Its CPU is not counted. `ends.ts JSON` (EndsOptions) prints `ready` on standard error.
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

export interface Entry {
  readonly listen: HostPort;
  readonly waypoint: HostPort;
  /** Where the client means to go. */
  readonly to: HostPort;
}

export interface EndsOptions {
  readonly entries: readonly Entry[];
  readonly client: WorkloadCertificate;
  readonly waypointId: SpiffeId;
  readonly pod: WorkloadCertificate;
  /** Where pods end tunnels. */
  readonly exits: readonly HostPort[];
  /** Where gRPC-like servers listen. */
  readonly grpc: readonly HostPort[];
}

const ANSWER = Buffer.from([0, 0, 0, 0, 32, ...Buffer.alloc(32, 'x')]);
const MAX_STREAMS = 1000;

const options = JSON.parse(process.argv[2] ?? '') as EndsOptions;
const reactor = createReactor({ backend: 'native' });
for (const entry of options.entries) await listenEntry(reactor, entry, options);
for (const at of options.exits) await listenExit(reactor, at, options.pod);
for (const at of options.grpc) await listenGrpc(reactor, at);
process.stderr.write('ready\n');

/** The outbound ztunnel: plaintext in, a tunnel out. */
async function listenEntry(on: Reactor, { listen, waypoint, to }: Entry, { client, waypointId }: EndsOptions): Promise<void> {
  const pool = new ConnectionPool({ reactor: on, certificates: { get: async () => client }, clock: systemClock });
  const peer = { source: client.identity, accepted: [waypointId], to: waypoint, sourceIp: '127.0.0.1' };
  const headers = [['baggage', 'k8s.namespace.name=bench,k8s.pod.name=client']] as const;
  await on.listen({ address: listen }, (conn) => {
    pool.open({ peer, authority: formatHostPort(to), headers, socket: {} }).then(
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
          on.connect({ to: target.address }).then(
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
