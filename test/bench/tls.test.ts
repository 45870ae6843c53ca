import t from 'tap';
import { TlsPairs } from '../../bench/tls/pairs.ts';

t.test('both ends of a pair have proved who they are', async (t) => {
  const pairs = await TlsPairs.open();
  t.teardown(() => pairs[Symbol.dispose]());
  const made = await Promise.all([pairs.next(), pairs.next()]);
  for (const { client, server } of made) {
    t.same(client.peer.uris, ['spiffe://cluster.local/ns/bench/sa/bench']);
    t.same(server.peer.uris, client.peer.uris);
    t.equal(client.alpn, 'h2');
    t.equal(client.local.port, server.remote.port, 'of the same connection');
  }
});
