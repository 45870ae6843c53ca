import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { IncomingTunnel, OpenTunnel, Tunnel } from '#shared/hbone/api.ts';
import { ConnectionPool, type PoolOptions } from '#shared/hbone/pool.ts';
import { relay } from '#shared/hbone/relay.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { spiffeId } from '#shared/ids.ts';
import type { ByteStream, CloseReason, Conn, TlsConn } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const client = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'client' });
const server = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'server' });

type Teardown = { teardown(fn: () => void): void };

/** A mesh of two: a server that hands tunnels to `onTunnel`, a pool, and the request to reach the one from the other. */
async function mesh(
  t: Teardown,
  onTunnel: (tunnel: IncomingTunnel) => void,
  options: PoolOptions & { maxStreams?: number } = {},
) {
  const ca = createTestCa();
  const certificates: CertificateSource = { get: async (identity) => ca.issue(identity) };
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const sessions: ReturnType<typeof serveHbone>[] = [];
  const tlsOptions = { certificate: ca.issue(server), alpn: ['h2'], verifyPeer: () => {} };
  const listener = await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn) => {
    const serve = (tls: TlsConn): void => void sessions.push(serveHbone(tls, { reactor, clock: systemClock }, onTunnel));
    // A client that does not like this server's identity breaks the handshake off.
    reactor.tlsServer(conn, tlsOptions).then(serve, () => {});
  });
  const pool = new ConnectionPool({ reactor, certificates, clock: systemClock }, options);
  t.teardown(() => pool.close());
  const request: OpenTunnel = {
    peer: { source: client, accepted: [server], to: listener.address, sourceIp: '10.0.0.1' },
    authority: '10.0.0.2:8080',
    headers: [['baggage', 'k8s.namespace.name=shop']],
    socket: {},
  };
  return { reactor, pool, request, sessions };
}

/** Everything a stream sends, and how it ended. */
function read(stream: ByteStream, hooks: { onEnd?: () => void } = {}): Promise<{ bytes: Buffer; reason: CloseReason }> {
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
function echo(stream: ByteStream): void {
  stream.start({
    onData: (chunk) => {
      if (!stream.write(chunk)) stream.pause();
    },
    onEnd: () => stream.end(),
    onDrain: () => stream.resume(),
    onClose: () => {},
  });
}

test('a tunnel carries bytes both ways and half-close', async (t) => {
  const { pool, request } = await mesh(t, (tunnel) => {
    t.equal(tunnel.authority, '10.0.0.2:8080');
    t.same(tunnel.headers, [['baggage', 'k8s.namespace.name=shop']]);
    echo(tunnel.accept([['x-answer', 'yes']]));
  });
  const tunnel = await pool.open(request);
  t.same(tunnel.headers, [['x-answer', 'yes']]);
  t.same(tunnel.peer.uris, [server]);
  const payload = randomBytes(3_000_000);
  const result = read(tunnel.stream);
  tunnel.stream.write(payload);
  tunnel.stream.end();
  const { bytes, reason } = await result;
  t.ok(bytes.equals(payload), 'the same bytes come back');
  t.same(reason, { kind: 'ended' });
});

test('tunnels share a connection, slots are used again', async (t) => {
  const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), { maxStreams: 2 });
  const tunnels = await Promise.all([1, 2, 3].map(() => pool.open(request)));
  t.equal(pool.size, 2, 'two on the first, one on a second');
  const finish = async ({ stream }: Tunnel): Promise<void> => {
    stream.end();
    await read(stream);
  };
  await Promise.all(tunnels.map(finish));
  const again = await Promise.all([1, 2, 3, 4].map(() => pool.open(request)));
  t.equal(pool.size, 2);
  await Promise.all(again.map(finish));
});

test('refusals, resets and mismatches name themselves', async (t) => {
  const { pool, request } = await mesh(t, (tunnel) => tunnel.refuse(401));
  await t.rejects(pool.open(request), { code: 'tunnel_refused', message: /http status: 401/u });
  await t.rejects(pool.open({ ...request, peer: { ...request.peer, accepted: [client] } }), {
    code: 'identity_mismatch',
    message:
      /expected SAN \(spiffe:\/\/cluster.local\/ns\/shop\/sa\/client\), got spiffe:\/\/cluster.local\/ns\/shop\/sa\/server/u,
  });
});

test('one failed connect fails all who wait for it at once', async (t) => {
  const { pool, request } = await mesh(t, () => {});
  const nobody = { ...request, peer: { ...request.peer, to: { ip: '127.0.0.1', port: 1 } } };
  const results = await Promise.allSettled([1, 2, 3].map(() => pool.open(nobody)));
  for (const result of results) t.match(result, { status: 'rejected', reason: { code: 'connect_failed' } });
});

test('a signal gives up; the server hears of it', async (t) => {
  const seen = Promise.withResolvers<void>();
  const { pool, request } = await mesh(t, (tunnel) => {
    tunnel.signal.addEventListener('abort', () => seen.resolve());
    abort.abort(new MeshError('reset', 'the client left'));
  });
  const abort = new AbortController();
  await t.rejects(pool.open({ ...request, signal: abort.signal }), { message: 'the client left' });
  await seen.promise;
});

test('GOAWAY: drained server finishes its streams, the pool dials anew', async (t) => {
  const { pool, request, sessions } = await mesh(t, (tunnel) => echo(tunnel.accept([])));
  const old = await pool.open(request);
  let drained = false;
  const drain = sessions[0]!.drain().then(() => (drained = true));
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.notOk(drained);
  const fresh = await pool.open(request);
  t.equal(sessions.length, 2);
  for (const { stream } of [old, fresh]) {
    const result = read(stream);
    stream.write(Buffer.from('still here'));
    stream.end();
    t.equal((await result).bytes.toString(), 'still here');
  }
  await drain;
});

test('relay: TCP - tunnel - TCP', async (t) => {
  const payload = randomBytes(2_000_000);
  const { pool, request, reactor } = await mesh(t, (tunnel) => {
    reactor.connect({ to: app.address }).then((upstream) => relay(tunnel.accept([]), upstream));
  });
  const app = await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn) => echo(conn));
  const results: Awaited<ReturnType<typeof relay>['done']>[] = [];
  const proxy = await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn: Conn) => {
    const joined = pool.open(request).then((tunnel) => relay(conn, tunnel.stream).done);
    joined.then((result) => results.push(result));
  });
  const conn = await reactor.connect({ to: proxy.address });
  const result = read(conn);
  conn.write(payload);
  conn.end();
  const { bytes, reason } = await result;
  t.ok(bytes.equals(payload));
  t.same(reason, { kind: 'ended' });
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.match(results, [
    { sent: payload.length, received: payload.length, downstream: { kind: 'ended' }, upstream: { kind: 'ended' } },
  ]);

  const second = await reactor.connect({ to: proxy.address });
  const torn = read(second);
  second.write(Buffer.from('x'));
  await new Promise((resolve) => setTimeout(resolve, 100));
  second.reset();
  await torn;
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.match(results[1], { downstream: { kind: 'reset', remote: true }, upstream: { kind: 'reset', remote: false } });
});
