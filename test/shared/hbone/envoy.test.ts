// HBONE with a real Envoy at the other end, in both roles.
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { relay } from '#shared/hbone/relay.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import { type SpiffeId, spiffeId } from '#shared/ids.ts';
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import { BACKENDS, createReactor } from '#shared/reactor/create.ts';
import { hboneEnvoy } from '../../harness/envoy-hbone.ts';
import { noEnvoy } from '../../harness/envoy.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const ANY = { ip: '127.0.0.1', port: 0 };
const identity = (serviceAccount: string): SpiffeId =>
  spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount });

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

/** Sends the payload, ends, and returns the digest of what came back. */
function exchange(stream: ByteStream, payload: Uint8Array): Promise<{ digest: string; reason: CloseReason }> {
  const hash = createHash('sha256');
  let at = 0;
  const go = (): void => {
    while (at < payload.length) {
      const piece = payload.subarray(at, (at += 30_000));
      if (!stream.write(piece)) return;
    }
    stream.end();
  };
  return new Promise((resolve) => {
    stream.start({
      onData: (chunk) => void hash.update(chunk),
      onEnd: () => {},
      onDrain: go,
      onClose: (reason) => resolve({ digest: hash.digest('hex'), reason }),
    });
    go();
  });
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const SIZES = [0, 1, 1000, 70_000, 5_000_000];

for (const backend of BACKENDS) {
  test(`${backend}: our client, Envoy as the server`, { skip: noEnvoy }, async (t) => {
    const ca = createTestCa();
    const reactor = createReactor({ backend });
    t.teardown(() => reactor.close());
    const app = await reactor.listen({ address: ANY }, echo);
    await using envoy = await hboneEnvoy({ kind: 'server', upstreams: { '*': app.address } }, ca.issue(identity('server')));
    const pool = new ConnectionPool({ reactor, certificates: { get: async (id) => ca.issue(id) }, clock: systemClock });
    t.teardown(() => pool.close());
    const peer = { source: identity('client'), accepted: [identity('server')], to: envoy.address, sourceIp: '10.0.0.1' };
    const one = async (size: number): Promise<void> => {
      const payload = randomBytes(size);
      const tunnel = await pool.open({ peer, authority: '10.0.0.2:8080', headers: [['baggage', 'a=b']], socket: {} });
      const { digest, reason } = await exchange(tunnel.stream, payload);
      t.equal(digest, sha256(payload), `${size} octets`);
      t.same(reason, { kind: 'ended' });
    };
    await Promise.all(SIZES.map(one));
    for (const size of SIZES) await one(size);
    t.equal(pool.size, 1, 'one connection carried them all');
    t.same(pool.streams, 0);
  });

  test(`${backend}: our server, Envoy as the client`, { skip: noEnvoy }, async (t) => {
    const ca = createTestCa();
    const reactor = createReactor({ backend });
    t.teardown(() => reactor.close());
    const app = await reactor.listen({ address: ANY }, echo);
    const authorities: string[] = [];
    const tlsOptions = { certificate: ca.issue(identity('server')), alpn: ['h2'], verifyPeer: () => {} };
    const hbone = await reactor.listen({ address: ANY }, (conn) => {
      reactor.tlsServer(conn, tlsOptions).then(
        (tls) =>
          serveHbone(tls, { reactor, clock: systemClock }, (tunnel) => {
            authorities.push(tunnel.authority);
            if (tunnel.headers.every(([name, value]) => name !== 'baggage' || value !== 'k8s.namespace.name=envoy'))
              tunnel.refuse(400);
            else reactor.connect({ to: app.address }).then((upstream) => relay(tunnel.accept([]), upstream));
          }),
        () => {},
      );
    });
    const role = { kind: 'client', peer: hbone.address, authorities: ['10.0.0.2:8080'] } as const;
    await using envoy = await hboneEnvoy(role, ca.issue(identity('client')));
    const one = async (size: number): Promise<void> => {
      const payload = randomBytes(size);
      const { digest, reason } = await exchange(await reactor.connect({ to: envoy.address }), payload);
      t.equal(digest, sha256(payload), `${size} octets`);
      t.same(reason, { kind: 'ended' });
    };
    await Promise.all(SIZES.map(one));
    for (const size of SIZES) await one(size);
    // The probe that waited for Envoy may have opened one more.
    t.ok(authorities.length >= SIZES.length * 2 && authorities.every((authority) => authority === '10.0.0.2:8080'));
  });
}
