// A mesh of two over real TLS on loopback: an HBONE server, a pool that dials it, and small ways to use a byte stream.
import { type Clock, systemClock } from '#shared/clock.ts';
import type { IncomingTunnel, OpenTunnel } from '#shared/hbone/api.ts';
import { ConnectionPool, type PoolOptions } from '#shared/hbone/pool.ts';
import { type ServeOptions, serveHbone } from '#shared/hbone/server.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { spiffeId } from '#shared/ids.ts';
import type { ByteStream, CloseReason, TlsConn } from '#shared/reactor/api.ts';
import { type Backend, createReactor } from '#shared/reactor/create.ts';
import { createTestCa } from './test-ca.ts';

export const client = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'client' });
export const server = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'server' });

type Teardown = { teardown(fn: () => void): void };

export interface MeshOptions extends PoolOptions {
  /** Default portable. */
  backend?: Backend;
  clock?: Clock;
  serve?: Partial<ServeOptions>;
}

/** mesh() on one backend, for tests that run on each. */
export function meshOn(backend: Backend): typeof mesh {
  return (t, onTunnel, options) => mesh(t, onTunnel, { ...options, backend });
}

/** A mesh of two: a server that hands tunnels to `onTunnel`, a pool, and the request to reach the one from the other. */
export async function mesh(t: Teardown, onTunnel: (tunnel: IncomingTunnel) => void, options: MeshOptions = {}) {
  const ca = createTestCa();
  const certificates: CertificateSource = { get: async (identity) => ca.issue(identity) };
  const reactor = createReactor(options.backend ? { backend: options.backend } : {});
  t.teardown(() => reactor.close());
  const conns: TlsConn[] = [];
  const sessions: ReturnType<typeof serveHbone>[] = [];
  const tlsOptions = { certificate: ca.issue(server), alpn: ['h2'], verifyPeer: () => {} };
  const listener = await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn) => {
    const serve = (tls: TlsConn): void => {
      conns.push(tls);
      sessions.push(serveHbone(tls, { reactor, clock: systemClock, ...options.serve }, onTunnel));
    };
    // A client that does not like this server's identity breaks the handshake off.
    reactor.tlsServer(conn, tlsOptions).then(serve, () => {});
  });
  const pool = new ConnectionPool({ reactor, certificates, clock: options.clock ?? systemClock }, options);
  t.teardown(() => pool.close());
  const request: OpenTunnel = {
    peer: { source: client, accepted: [server], to: listener.address, sourceIp: '10.0.0.1' },
    authority: '10.0.0.2:8080',
    headers: [['baggage', 'k8s.namespace.name=shop']],
    socket: {},
  };
  return { reactor, pool, request, sessions, conns };
}

/** Everything a stream sends, and how it ended. */
export function read(stream: ByteStream, hooks: { onEnd?: () => void } = {}): Promise<{ bytes: Buffer; reason: CloseReason }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    stream.start({
      onData: (chunk) => void chunks.push(Buffer.from(chunk)),
      onEnd: () => hooks.onEnd?.(),
      onDrain: () => {},
      onClose: (reason) => resolve({ bytes: Buffer.concat(chunks), reason }),
    });
  });
}

/** Sends back what comes, end and all. */
export function echo(stream: ByteStream): void {
  stream.start({
    onData: (chunk) => {
      if (!stream.write(chunk)) stream.pause();
    },
    onEnd: () => stream.end(),
    onDrain: () => stream.resume(),
    onClose: () => {},
  });
}

/** Resolves when `ready` holds; rejects after five seconds. */
export async function until(ready: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!ready()) {
    if (Date.now() > deadline) throw new Error(`never held: ${String(ready)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
