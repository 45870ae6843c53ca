// Two OpenSSL sessions that talk through memory: with a hostile hand between them, and with material that cannot be loaded.
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import { SslContexts, type SslSession } from '#shared/tls/openssl-session.ts';
import { mutate, random } from '../../harness/mutate.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const ca = createTestCa();
const own = ca.issue('spiffe://cluster.local/ns/a/sa/a');

/** Moves everything that `from` has to say; the bytes moved. */
function move(from: SslSession, to: SslSession, change: (bytes: Buffer) => Buffer = (bytes) => bytes): number {
  const space = Buffer.alloc(64 * 1024);
  const count = from.drain(space);
  if (count > 0) to.feed(change(space.subarray(0, count)));
  return count;
}

function pair(contexts = new SslContexts({})): { client: SslSession; server: SslSession } {
  const context = contexts.get(own, ['h2']);
  return { client: context.client(), server: context.server() };
}

/** Shakes hands as far as it goes; true when both are done. */
function shake(client: SslSession, server: SslSession, change?: (bytes: Buffer) => Buffer): boolean {
  const done = { client: false, server: false };
  for (let round = 0; round < 6 && !(done.client && done.server); round++) {
    done.client ||= client.handshake();
    move(client, server, change);
    done.server ||= server.handshake();
    move(server, client, change);
  }
  return done.client && done.server;
}

t.test('plaintext in, plaintext out, and an end', async (t) => {
  const { client, server } = pair();
  t.ok(shake(client, server));
  t.equal(client.alpn, 'h2');
  t.strictSame(server.peer.uris, [own.identity]);
  const message = Buffer.from('hello');
  t.equal(client.write(message), 5);
  move(client, server);
  const space = Buffer.alloc(100);
  t.equal(server.read(space), 5);
  t.same(space.subarray(0, 5), message);
  t.equal(server.read(space), 0);
  client.closeNotify();
  move(client, server);
  t.equal(server.read(space), -1);
  for (const session of [client, server, client]) session.free();
  t.equal(server.read(space), 0, 'a freed session is silent');
});

t.test('a session takes no more than its buffer holds, and says so', async (t) => {
  const { client, server } = pair();
  t.ok(shake(client, server));
  const big = Buffer.alloc(1 << 20);
  const taken = client.write(big);
  t.ok(taken > 0 && taken < 40_000, `${taken} bytes found room`);
  t.throws(() => server.feed(big), { code: 'internal' });
  for (const session of [client, server]) session.free();
});

t.test('contexts are made once per certificate object and list of protocols', async (t) => {
  const contexts = new SslContexts({});
  t.equal(contexts.get(own, ['h2']), contexts.get(own, ['h2']));
  t.not(contexts.get(own, []), contexts.get(own, ['h2']));
  t.not(contexts.get({ ...own }, ['h2']), contexts.get(own, ['h2']));
});

t.test('TLS 1.2 is spoken only where it is switched on', async (t) => {
  const { client } = pair(new SslContexts({ tls12: true }));
  const { server } = pair(new SslContexts({ tls12: true }));
  t.ok(shake(client, server));
  for (const session of [client, server]) session.free();
});

t.test('what cannot be loaded is named', async (t) => {
  const other = ca.issue('spiffe://cluster.local/ns/a/sa/b');
  for (const [what, certificate] of [
    ['the private key', { ...own, key: other.key }],
    ['the private key', { ...own, key: 'no key' }],
    ['the certificate chain', { ...own, chain: '' }],
    ['the roots', { ...own, roots: own.key }],
  ] as const)
    t.throws(() => new SslContexts({}).get(certificate, []), { code: 'invalid_config', message: new RegExp(what, 'u') });
  t.ok(shake(...(Object.values(pair()) as [SslSession, SslSession])), 'a failure leaves nothing in the error queue');
});

t.test('broken flights and records end their session, never the process', async (t) => {
  let failed = 0;
  for (let seed = 1; seed <= 300; seed++) {
    const below = random(seed);
    const { client, server } = pair();
    const fault = (bytes: Buffer): Buffer => (below(3) === 0 ? mutate(bytes, below).subarray(0, 30_000) : bytes);
    try {
      if (shake(client, server, fault)) {
        client.write(Buffer.alloc(20_000, seed));
        move(client, server, (bytes) => mutate(bytes, below).subarray(0, 30_000));
        const space = Buffer.alloc(30_000);
        for (let count = server.read(space); count > 0; count = server.read(space))
          if (space.subarray(0, count).some((byte) => byte !== (seed & 0xff))) t.fail('a changed record was believed');
      }
    } catch (thrown) {
      failed++;
      if (!(thrown instanceof MeshError) || thrown.code !== 'tls_failure') throw thrown;
    } finally {
      client.free();
      server.free();
    }
  }
  t.ok(failed > 100, `${failed} of 300 were refused`);
});
