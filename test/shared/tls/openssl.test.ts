// Two OpenSSL sessions that talk through memory: with a hostile hand between them, and with material that cannot be loaded.
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import { SslContexts } from '#shared/tls/openssl-context.ts';
import type { SslSession } from '#shared/tls/openssl-session.ts';
import { openssl, SSL_CTRL } from '#shared/tls/openssl.ts';
import { mutate, random } from '../../harness/mutate.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const ca = createTestCa();
const own = ca.issue('spiffe://cluster.local/ns/a/sa/a');

/** Does something with one session and hands what it has to say to the other. */
function send(from: SslSession, to: SslSession, act: () => void, change: (bytes: Buffer) => Buffer = (bytes) => bytes): void {
  try {
    act();
  } finally {
    const said = change(Buffer.from(from.take()));
    to.feed(said);
    to.keep();
  }
}

function pair(contexts = new SslContexts({})): { client: SslSession; server: SslSession } {
  const context = contexts.get(own, ['h2']);
  return { client: context.client(), server: context.server() };
}

function mirrored(bytes: Buffer): Buffer {
  return Buffer.from(bytes).reverse();
}

/** Shakes hands as far as it goes; true when both are done. */
function shake(client: SslSession, server: SslSession, change?: (bytes: Buffer) => Buffer): boolean {
  const done = { client: false, server: false };
  for (let round = 0; round < 6 && !(done.client && done.server); round++) {
    if (!done.client) send(client, server, () => (done.client = client.handshake()), change);
    if (!done.server) send(server, client, () => (done.server = server.handshake()), change);
  }
  return done.client && done.server;
}

t.test('plaintext in, plaintext out, and an end', async (t) => {
  const { client, server } = pair();
  t.ok(shake(client, server));
  t.equal(client.alpn, 'h2');
  t.strictSame(server.peer.uris, [own.identity]);
  const message = Buffer.from('hello');
  send(client, server, () => client.write(message));
  const space = Buffer.alloc(100);
  t.equal(server.read(space), 5);
  t.same(space.subarray(0, 5), message);
  t.equal(server.read(space), 0);
  t.notOk(server.readable);
  send(client, server, () => client.closeNotify());
  t.equal(server.read(space), -1);
  for (const session of [client, server, client]) session.free();
  t.equal(server.read(space), 0, 'a freed session is silent');
});

t.test('what was not read is kept, also of a chunk whose memory is used again', async (t) => {
  const { client, server } = pair();
  t.ok(shake(client, server));
  const message = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i * 7));
  client.write(message);
  const said = Buffer.from(client.take());
  const [got, space]: [Buffer[], Buffer] = [[], Buffer.alloc(1000)];
  const drain = (times: number): void => {
    for (let i = 0; i < times && server.readable; i++) got.push(Buffer.from(space.subarray(0, server.read(space))));
  };
  for (let at = 0; at < said.length; at += 5000) {
    const chunk = Buffer.from(said.subarray(at, at + 5000));
    server.feed(chunk);
    drain(3);
    server.keep();
    chunk.fill(0xee);
  }
  drain(1000);
  t.ok(Buffer.concat(got).equals(message));
  for (const session of [client, server]) session.free();
});

t.test('more ciphertext than there was room for makes room', async (t) => {
  const { client, server } = pair();
  t.ok(shake(client, server));
  const big = Buffer.alloc(1 << 20, 3);
  client.write(big);
  server.feed(Buffer.from(client.take()));
  const space = Buffer.alloc(big.length);
  t.equal(server.read(space), big.length);
  t.ok(space.equals(big));
  client.write(Buffer.from('x'));
  t.ok(client.take().length < 100, 'from the start again');
  for (const session of [client, server]) session.free();
});

t.test('what comes behind the end, or behind a broken record, is dropped', async (t) => {
  for (const breaks of [false, true]) {
    const { client, server } = pair();
    t.ok(shake(client, server));
    const [space, junk] = [Buffer.alloc(100), Buffer.alloc(1 << 20)];
    if (breaks) send(client, server, () => client.write(Buffer.from('x')), mirrored);
    else send(client, server, () => client.closeNotify());
    const read = (): number => server.read(space);
    const isOver = (): void => void (breaks ? t.throws(read, { code: 'tls_failure' }) : t.equal(read(), -1));
    isOver();
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 16; i++) {
      server.feed(junk);
      server.keep();
    }
    t.ok(process.memoryUsage().arrayBuffers - before < junk.length, 'nothing is copied');
    isOver();
    for (const session of [client, server]) session.free();
  }
});

// Nothing ever changed the keys, and AES-GCM is safe for some 400 GB of a direction.
t.test('each side changes its key after so many records, in front of the next data', async (t) => {
  const { client, server } = pair(new SslContexts({ recordsPerKey: 4 }));
  t.ok(shake(client, server));
  const [space, size] = [
    Buffer.alloc(200_000),
    (from: SslSession, to: SslSession, octets: number): number => {
      from.write(Buffer.alloc(octets, octets));
      const said = Buffer.from(from.take());
      to.feed(said);
      t.equal(to.read(space), octets);
      t.ok(space.subarray(0, octets).equals(Buffer.alloc(octets, octets)));
      to.keep();
      return said.length - octets;
    },
  ];
  const [record, keyUpdate] = [1 + 16 + 5, 5 + 1 + 16 + 5];
  for (const [from, to] of [
    [client, server],
    [server, client],
  ] as const) {
    const sizes = Array.from({ length: 9 }, () => size(from, to, 1));
    t.strictSame(
      sizes,
      [0, 0, 0, 0, 1, 0, 0, 0, 1].map((updates) => record + updates * keyUpdate),
    );
    t.equal(size(from, to, 40_000), 3 * record, 'a long write is as many records as it takes');
    t.equal(size(from, to, 40_000), 3 * record + keyUpdate);
  }
  for (const session of [client, server]) session.free();
});

t.test('TLS 1.2, which cannot change its keys, goes on', async (t) => {
  const { client, server } = pair(new SslContexts({ recordsPerKey: 1, tls12: true }));
  openssl().SSL_CTX_ctrl(client.context.pointer, SSL_CTRL.MAX_PROTO, 0x303, 0);
  const old = { client: client.context.client(), server: client.context.server() };
  t.ok(shake(old.client, old.server));
  for (const octet of [1, 2, 3]) {
    send(old.client, old.server, () => old.client.write(Buffer.from([octet])));
    const space = Buffer.alloc(10);
    t.equal(old.server.read(space), 1);
    t.equal(space[0], octet);
  }
  for (const session of [client, server, old.client, old.server]) session.free();
});

t.test('what one session left behind never reaches the peer of another', async (t) => {
  const [one, other] = [pair(), pair()];
  t.ok(shake(one.client, one.server) && shake(other.client, other.server));
  one.client.write(Buffer.from('secret'));
  other.client.write(Buffer.from('x'));
  other.server.feed(Buffer.from(other.client.take()));
  const space = Buffer.alloc(100);
  t.equal(other.server.read(space), 1);
  t.notOk(other.server.readable);
  for (const session of Object.values({ ...one, ...other })) session.free();
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

t.test('an alert after the handshake is a fault with its name, not an end', async (t) => {
  const stranger = createTestCa('stranger').issue(own.identity, { roots: ca.root });
  const contexts = new SslContexts({});
  const [client, server] = [contexts.get(stranger, ['h2']).client(), contexts.get(own, ['h2']).server()];
  send(client, server, () => client.handshake());
  send(server, client, () => server.handshake());
  send(client, server, () => t.ok(client.handshake(), 'the client has no more to do'));
  t.throws(() => send(server, client, () => server.handshake()), { code: 'tls_failure' });
  t.throws(() => client.read(Buffer.alloc(100)), { code: 'tls_failure', message: /alert unknown ca/u });
  t.throws(() => client.read(Buffer.alloc(100)), { message: /alert unknown ca/u }, 'for good');
  for (const session of [client, server]) session.free();
});

t.test('broken flights and records end their session, never the process', async (t) => {
  let failed = 0;
  for (let seed = 1; seed <= 300; seed++) {
    const below = random(seed);
    const { client, server } = pair();
    const fault = (bytes: Buffer): Buffer => (below(3) === 0 ? mutate(bytes, below).subarray(0, 30_000) : bytes);
    try {
      if (shake(client, server, fault)) {
        const act = (): void => client.write(Buffer.alloc(20_000, seed));
        send(client, server, act, (bytes) => mutate(bytes, below).subarray(0, 30_000));
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
