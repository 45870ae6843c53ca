// Chains that are larger than any buffer on their way: the handshake sends and reads them all the same, on both backends.
import t from 'tap';
import { createReactor, type Backend } from '#shared/reactor/create.ts';
import { createTestCa } from '../../harness/test-ca.ts';
import { createGuard, Recorder } from '../reactor/suite/recorder.ts';
import { tcpPair, useReactor } from '../reactor/suite/pairs.ts';

const ca = createTestCa();
const extra = createTestCa('an authority that nobody asked for').root;
/** About 60 KB of certificates: peers take up to 100. */
const long = (name: string) => {
  const own = ca.issue(`spiffe://cluster.local/ns/a/sa/${name}`);
  return { ...own, chain: [own.chain, ...Array.from({ length: 150 }, () => extra)].join('\n') };
};

for (const [clientSide, serverSide] of [
  ['native', 'native'],
  ['native', 'portable'],
  ['portable', 'native'],
] as const satisfies [Backend, Backend][])
  t.test(`${clientSide} to ${serverSide}: flights of 60 KB each way`, async (t) => {
    const [one, other] = [clientSide, serverSide].map((backend) => useReactor(t, () => createReactor({ backend })));
    if (!one || !other) return;
    const accepted = Promise.withResolvers<Parameters<typeof other.tlsServer>[0]>();
    const listener = await other.listen({ address: { ip: '127.0.0.1', port: 0 } }, accepted.resolve);
    const [client, server] = await Promise.all([
      one
        .connect({ to: listener.address })
        .then((conn) => one.tlsClient(conn, { certificate: long('client'), alpn: ['h2'], verifyPeer: () => undefined })),
      accepted.promise.then((conn) =>
        other.tlsServer(conn, { certificate: long('server'), alpn: ['h2'], verifyPeer: () => undefined }),
      ),
    ]);
    t.strictSame(
      [client.peer.uris, server.peer.uris],
      [['spiffe://cluster.local/ns/a/sa/server'], ['spiffe://cluster.local/ns/a/sa/client']],
    );
    const guard = createGuard();
    const [sender, reader] = [new Recorder(client, guard).start(), new Recorder(server, guard).start()];
    sender.call((stream) => stream.write(Buffer.alloc(100_000)));
    sender.call((stream) => stream.end());
    await reader.ended;
    t.equal(reader.bytes, 100_000);
  });

t.test('TLS 1.2 is agreed on where both ends switch it on', async (t) => {
  for (const backend of ['native', 'portable'] as const) {
    const reactor = useReactor(t, () => createReactor({ backend, tls12: true }));
    const own = { certificate: ca.issue('spiffe://cluster.local/ns/a/sa/a'), alpn: ['h2'], verifyPeer: () => undefined };
    const tcp = await tcpPair(reactor);
    const [client] = await Promise.all([reactor.tlsClient(tcp.client, own), reactor.tlsServer(tcp.server, own)]);
    t.equal(client.alpn, 'h2');
  }
});
