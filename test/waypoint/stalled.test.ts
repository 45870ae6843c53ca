// Whoever does not read holds its sender back through the whole way, tunnels and all: what waits within the waypoint has an end.
import { createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import type { Duplex, Writable } from 'node:stream';
import { AppProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import { spiffeId } from '#shared/ids.ts';
import { type Backend, createReactor } from '#shared/reactor/create.ts';
import { waypointResources } from '../../controlplane/translate/envoy/waypoint.ts';
import { aMesh, aScope, aService, aWorkload } from '../controlplane/translate/envoy/mesh.ts';
import { endTunnels, ownAddress, startWaypoint, testOnBackends } from '../harness/waypoint-lab.ts';

const pod = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const VIP = '10.96.0.1:80';
/** What a sender has to give. */
const PLENTY = 128 << 20;
/** What may be under way: windows of two tunnels, and the kernel's buffers of the connections that they go over. */
const UNDER_WAY = 24 << 20;
/** Milliseconds without progress that make a stop. */
const STOPPED = 500;
/** Less than half of what the waypoint's writer gathers. */
const PIECE = `800\r\n${'x'.repeat(0x800)}\r\n`;
const PIECES = Buffer.from(PIECE.repeat(16));

interface Way {
  readonly client: Duplex;
  readonly backend: Socket;
}

/** A client's tunnel and the connection that the waypoint makes for its request, which is sent here. Nobody reads further. */
async function way(t: Test, kind: Backend, request: string): Promise<Way> {
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const ip = ownAddress();
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
    accepted.resolve(socket);
  });
  await new Promise<void>((resolve) => server.listen(8080, ip, resolve));
  t.teardown(() => server.close());
  const echo = aService({ name: 'echo', vip: '10.96.0.1', ports: [{ port: 80, target: 8080, protocol: AppProtocol.HTTP11 }] });
  const mesh = aMesh({ services: [echo], workloads: [aWorkload({ name: 'echo-0', ip, service: echo })] });
  const lab = await startWaypoint(t, kind, waypointResources(mesh, aScope({ services: [echo] })));
  await endTunnels(reactor, lab.certificates, ip, pod);
  const client = await lab.connect(VIP);
  t.teardown(() => client.destroy());
  client.write(request);
  return { client, backend: await accepted.promise };
}

/** Octets that a sender got rid of before it was stopped. */
async function takenOf(sender: Writable): Promise<number> {
  let taken = 0;
  let stopped = false;
  while (!stopped && taken < PLENTY) {
    const more = sender.write(PIECES);
    taken += PIECES.length;
    if (more) continue;
    const drained = new Promise<void>((resolve) => sender.once('drain', resolve));
    const silence = AbortSignal.timeout(STOPPED);
    stopped = await Promise.race([
      drained.then(() => false),
      new Promise<boolean>((resolve) => silence.addEventListener('abort', () => resolve(true))),
    ]);
  }
  return taken;
}

testOnBackends('a client that does not read its answer holds the backend back', { timeout: 60_000 }, async (t, kind) => {
  const { backend } = await way(t, kind, 'GET / HTTP/1.1\r\nhost: echo\r\n\r\n');
  backend.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n');
  const taken = await takenOf(backend);
  t.ok(taken < UNDER_WAY, `${taken >> 20} MiB`);
});

testOnBackends('a backend that does not read a request holds the client back', { timeout: 60_000 }, async (t, kind) => {
  const { client } = await way(t, kind, 'POST / HTTP/1.1\r\nhost: echo\r\ntransfer-encoding: chunked\r\n\r\n');
  const taken = await takenOf(client);
  t.ok(taken < UNDER_WAY, `${taken >> 20} MiB`);
});
