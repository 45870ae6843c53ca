// Double HBONE: TLS and HTTP/2 inside a tunnel, as traffic crosses networks through a gateway.
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import { dialHboneOver } from '#shared/hbone/client.ts';
import { relay } from '#shared/hbone/relay.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import { spiffeId } from '#shared/ids.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import { BACKENDS, createReactor } from '#shared/reactor/create.ts';
import { client, echo, meshOn, read, until } from '../../harness/hbone.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const inner = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'inner' });
const ADDRESS = { ip: '10.0.0.9', port: 80 };
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

for (const backend of BACKENDS) {
  const mesh = meshOn(backend);

  /** An inner server in each outer tunnel, with its own CA. */
  const doubled = async (t: { teardown(fn: () => void): void }) => {
    const ca = createTestCa();
    const reactor = createReactor({ backend });
    t.teardown(() => reactor.close());
    const options = { certificate: ca.issue(inner), alpn: ['h2'], verifyPeer: () => {} };
    const serveInner = (tunnel: IncomingTunnel): void => {
      reactor.tlsServerOver(tunnel.accept([]), ADDRESS, ADDRESS, options).then(
        (tls) =>
          serveHbone(tls, { reactor, clock: systemClock }, (second) => echo(second.accept([['x-authority', second.authority]]))),
        () => {},
      );
    };
    const outer = await mesh(t, serveInner);
    const deps = { reactor, certificates: { get: async (identity: string) => ca.issue(identity) }, clock: systemClock };
    return { ...outer, deps };
  };

  test(`${backend}: a tunnel in a tunnel`, async (t) => {
    const { pool, request, deps } = await doubled(t);
    const tunnel = await pool.open(request);
    const connection = await dialHboneOver(deps, tunnel, { ...request.peer, accepted: [inner] });
    const second = await connection.open('shop.default:80', [['x-forwarded-network', 'n1']]);
    t.same(second.headers, [['x-authority', 'shop.default:80']]);
    t.same(second.peer.uris, [inner]);
    const payload = randomBytes(1_500_000);
    const result = read(second.stream);
    second.stream.write(payload);
    second.stream.end();
    const { bytes, reason } = await result;
    t.equal(sha256(bytes), sha256(payload));
    t.same(reason, { kind: 'ended' });
    connection.drain();
    await until(() => pool.streams === 0);
  });

  test(`${backend}: the inner identity is checked too`, async (t) => {
    const { pool, request, deps } = await doubled(t);
    const tunnel = await pool.open(request);
    await t.rejects(dialHboneOver(deps, tunnel, { ...request.peer, accepted: [client] }), { code: 'identity_mismatch' });
  });

  test(`${backend}: 300 random transfers both ways at once, through relay, tunnel and relay`, async (t) => {
    const { pool, request, reactor } = await mesh(t, (tunnel) => {
      reactor.connect({ to: app.address }).then((upstream) => relay(tunnel.accept([]), upstream));
    });
    const any = { address: { ip: '127.0.0.1', port: 0 } };
    /** Sends its own bytes in pieces, reads the other's, and resolves with the digest of what it read. */
    const talk = (stream: ByteStream, own: Uint8Array): Promise<string> =>
      new Promise((resolve, reject) => {
        const hash = createHash('sha256');
        let at = 0;
        const go = (): void => {
          while (at < own.length) if (!stream.write(own.subarray(at, (at += 1 + ((at * 7919) % 30_000))))) return;
          stream.end();
        };
        stream.start({
          onData: (chunk) => void hash.update(chunk),
          onEnd: () => {},
          onDrain: go,
          onClose: (reason) =>
            reason.kind === 'ended' ? resolve(hash.digest('hex')) : reject(new Error(JSON.stringify(reason))),
        });
        go();
      });
    const seen: Promise<string>[] = [];
    const answers = new Map<string, string>();
    const app = await reactor.listen(any, (conn) => {
      const own = randomBytes(Math.floor(Math.random() ** 4 * 400_000));
      answers.set(sha256(own), '');
      seen.push(talk(conn, own));
    });
    const proxy = await reactor.listen(any, (conn) => void pool.open(request).then((tunnel) => relay(conn, tunnel.stream)));
    for (let round = 0; round < 15; round++) {
      const sent = Array.from({ length: 20 }, () => randomBytes(Math.floor(Math.random() ** 4 * 400_000)));
      const received = await Promise.all(sent.map(async (own) => talk(await reactor.connect({ to: proxy.address }), own)));
      const atApp = await Promise.all(seen.splice(0));
      t.same(atApp.toSorted(), sent.map(sha256).toSorted(), `round ${round}: the application got what was sent`);
      t.ok(
        received.every((digest) => answers.has(digest)),
        'the client got what the application sent',
      );
    }
    t.equal(pool.size, 1);
  });
}
