// Handshakes: who is let in, who is not, and what is said about it.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as tlsConnect } from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Test } from 'tap';
import { MeshError } from '#shared/errors.ts';
import type { Conn, Reactor, TlsConn, TlsOptions } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { verifyServer, verifyTrustDomain } from '#shared/tls/verify.ts';
import { HandClient } from '../../../harness/hand-client.ts';
import { createTestCa } from '../../../harness/test-ca.ts';
import { LOOPBACK, OnlyStream, tcpPair, tlsOptions, tlsPair, useReactor, type ReactorFactory } from './pairs.ts';
import { createGuard, Recorder } from './recorder.ts';

const DAY = 86_400_000;

export function tlsSuite(t: Test, create: ReactorFactory): void {
  t.test('both sides learn the identity, the serial and the protocol', async (t) => {
    const { client, server } = await tlsPair(useReactor(t, create));
    t.strictSame(client.peer.uris, ['spiffe://cluster.local/ns/shop/sa/server']);
    t.strictSame(server.peer.uris, ['spiffe://cluster.local/ns/shop/sa/client']);
    t.match(client.peer.serial, /^[0-9A-F]+$/u);
    t.equal(client.alpn, 'h2');
    t.equal(server.alpn, 'h2');
    t.strictSame(server.remote, client.local);
  });

  t.test('every URI SAN counts, in order', async (t) => {
    const ca = createTestCa();
    const uris = ['spiffe://cluster.local/ns/a/sa/b', 'spiffe://cluster.local/ns/a, URI:b/sa/"c"', 'spiffe://other/ns/a/sa/b'];
    const [first = '', ...extraUris] = uris;
    const options = {
      client: { certificate: ca.issue('spiffe://cluster.local/ns/a/sa/c'), alpn: [], verifyPeer: () => undefined },
      server: { certificate: ca.issue(first, { extraUris }), alpn: [], verifyPeer: () => undefined },
    };
    const { client } = await bothHandshakes(useReactor(t, create), options);
    t.match(client, { value: { peer: { uris }, alpn: '' } });
  });

  t.test('a server with another identity is refused', async (t) => {
    const options = tlsOptions();
    const expected = createTestCa().issue('spiffe://cluster.local/ns/shop/sa/other').identity;
    options.client = { ...options.client, verifyPeer: verifyServer([expected]) };
    const { client } = await bothHandshakes(useReactor(t, create), options);
    t.match(client, {
      reason: {
        code: 'identity_mismatch',
        message:
          'identity verification error: peer did not present the expected SAN (spiffe://cluster.local/ns/shop/sa/other), got spiffe://cluster.local/ns/shop/sa/server',
      },
    });
  });

  t.test('a client of another trust domain is refused', async (t) => {
    const options = tlsOptions();
    options.server = { ...options.server, verifyPeer: verifyTrustDomain(['example.org']) };
    const { server } = await bothHandshakes(useReactor(t, create), options);
    t.match(server, {
      reason: {
        code: 'identity_mismatch',
        message:
          'identity verification error: peer did not present the expected trustdomain (example.org), got spiffe://cluster.local/ns/shop/sa/client',
      },
    });
  });

  const other = createTestCa('another authority');
  const own = createTestCa();
  const late = { notBefore: new Date(Date.now() - 2 * DAY), notAfter: new Date(Date.now() - DAY) };
  const soon = { notBefore: new Date(Date.now() + DAY), notAfter: new Date(Date.now() + 2 * DAY) };
  for (const [what, certificate, reason] of [
    [
      'of an unknown authority',
      other.issue('spiffe://cluster.local/ns/shop/sa/x', { roots: own.root }),
      /unable to|self.signed/u,
    ],
    ['that has expired', own.issue('spiffe://cluster.local/ns/shop/sa/x', late), /certificate has expired/u],
    ['that is not valid yet', own.issue('spiffe://cluster.local/ns/shop/sa/x', soon), /not yet valid/u],
  ] as const)
    for (const bad of ['client', 'server'] as const)
      t.test(`a ${bad} certificate ${what} is refused`, async (t) => {
        const good = bad === 'client' ? 'server' : 'client';
        const side = (certificate: TlsOptions['certificate']): TlsOptions => ({
          certificate,
          alpn: ['h2'],
          verifyPeer: () => undefined,
        });
        const fine = side(own.issue('spiffe://cluster.local/ns/shop/sa/y'));
        const result = await bothHandshakes(
          useReactor(t, create),
          bad === 'client' ? { client: side(certificate), server: fine } : { client: fine, server: side(certificate) },
        );
        t.match(result[good], { reason: { code: 'tls_failure', message: reason } });
        t.match(result[good], { reason: { message: /127\.0\.0\.1:\d+/u } }, 'the peer is named');
      });

  t.test('a client without a certificate is refused', async (t) => {
    const reactor = useReactor(t, create);
    const options = tlsOptions();
    const refused = acceptTls(reactor, options.server);
    const socket = tlsConnect({
      ...(await refused.address),
      ca: options.client.certificate.roots,
      checkServerIdentity: () => undefined,
    });
    socket.on('error', () => undefined);
    await t.rejects(refused.conn, { code: 'tls_failure', message: /did not return a certificate/u });
  });

  t.test('TLS 1.2 is refused', async (t) => {
    const reactor = useReactor(t, create);
    const options = tlsOptions();
    const refused = acceptTls(reactor, options.server);
    const { chain: cert, key, roots: ca } = options.client.certificate;
    const socket = tlsConnect({
      ...(await refused.address),
      cert,
      key,
      ca,
      maxVersion: 'TLSv1.2',
      checkServerIdentity: () => undefined,
    });
    socket.on('error', () => undefined);
    await t.rejects(refused.conn, { code: 'tls_failure', message: /protocol/u });
  });

  t.test('a client that offers another protocol is refused', async (t) => {
    const options = tlsOptions();
    options.client = { ...options.client, alpn: ['http/1.1'] };
    const { client, server } = await bothHandshakes(useReactor(t, create), options);
    t.match(client, { reason: { code: 'tls_failure' } });
    t.match(server, { reason: { code: 'tls_failure', message: /application protocol/u } });
  });

  t.test('a peer that is silent, gone, or no TLS speaker', async (t) => {
    const reactor = useReactor(t, create);
    const { server } = tlsOptions();
    const silent = await tcpPair(reactor);
    await t.rejects(reactor.tlsServer(silent.server, { ...server, timeout: 50 }), { code: 'tls_failure', message: /50 ms/u });
    const gone = await tcpPair(reactor);
    gone.client.reset();
    await t.rejects(reactor.tlsServer(gone.server, server), { code: 'tls_failure' });
    const plain = await tcpPair(reactor);
    plain.client.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
    await t.rejects(reactor.tlsServer(plain.server, server), {
      code: 'tls_failure',
      message: /http request|wrong version|packet/iu,
    });
  });

  t.test('a record changed on its way ends the connection with an error', async (t) => {
    const reactor = useReactor(t, create);
    const tcp = await tcpPair(reactor);
    const options = tlsOptions();
    const tampering = new TamperingStream(tcp.client);
    const { local, remote } = tcp.client;
    const [client, server] = await Promise.all([
      reactor.tlsClientOver(tampering, local, remote, options.client),
      reactor.tlsServer(tcp.server, options.server),
    ]);
    const guard = createGuard();
    const [sender, receiver] = [new Recorder(client, guard).start(), new Recorder(server, guard).start()];
    sender.call((stream) => stream.write(Buffer.from('honest')));
    while (receiver.bytes < 6) await sleep(1);
    tampering.active = true;
    sender.call((stream) => stream.write(Buffer.alloc(1000)));
    t.match(await receiver.closed, { kind: 'error', error: { code: 'tls_failure', message: /127\.0\.0\.1:\d+: .*mac/u } });
    t.equal(receiver.bytes, 6, 'nothing of it is handed up');
    t.match(await sender.closed, { kind: /reset|error/u });
    t.strictSame(guard.faults, []);
  });

  t.test('a MeshError of verifyPeer is what the handshake fails with', async (t) => {
    const options = tlsOptions();
    const verdict = new MeshError('policy_denied', 'not today');
    options.server = {
      ...options.server,
      verifyPeer() {
        throw verdict;
      },
    };
    const { server } = await bothHandshakes(useReactor(t, create), options);
    t.equal(server.status === 'rejected' && server.reason, verdict);
  });

  // The connections stayed open, one for each attempt.
  for (const side of ['Client', 'Server'] as const)
    t.test(`${side}: a certificate that cannot be loaded is refused, and the connection is reset`, async (t) => {
      const reactor = useReactor(t, create);
      const { server: good } = tlsOptions();
      const options = { ...good, certificate: { ...good.certificate, key: 'nonsense' } };
      const refused = { code: 'invalid_config', message: /sa\/server/u };
      const tcp = await tcpPair(reactor);
      const peer = new Recorder(tcp.client, createGuard()).start();
      await t.rejects(reactor[`tls${side}`](tcp.server, options), refused);
      t.strictSame(await peer.closed, { kind: 'reset', remote: true });

      const { client, server } = await tlsPair(reactor);
      const outerPeer = new Recorder(client, createGuard()).start();
      await t.rejects(reactor[`tls${side}Over`](new OnlyStream(server), server.local, server.remote, options), refused);
      t.strictSame(await outerPeer.closed, { kind: 'reset', remote: true });
    });

  ticketTests(t, create);
  behindTheEndTest(t, create);
  swapTest(t, create);
}

/** Who resumes a session proves nothing anew: no certificate that was revoked or has expired meanwhile would be noticed. */
function ticketTests(t: Test, create: ReactorFactory): void {
  t.test('no session can be resumed: a client gets no ticket', async (t) => {
    const reactor = useReactor(t, create);
    const options = tlsOptions();
    const { chain: cert, key, roots: ca } = options.client.certificate;
    const listener = await reactor.listen({ address: LOOPBACK }, (conn) => {
      void reactor.tlsServer(conn, { ...options.server, alpn: [] }).then((tls) => {
        tls.start({
          onData: () => void tls.write(Buffer.from('answer')),
          onEnd: () => tls.end(),
          onDrain: () => undefined,
          onClose: () => undefined,
        });
      });
    });
    const { ip: host, port } = listener.address;
    const talk = async (): Promise<{ tickets: Buffer[]; reused: boolean }> => {
      const socket = tlsConnect({
        host,
        port,
        cert,
        key,
        ca,
        checkServerIdentity: () => undefined,
      });
      const tickets: Buffer[] = [];
      socket.on('session', (ticket: Buffer) => tickets.push(ticket));
      socket.on('error', () => undefined);
      await once(socket, 'secureConnect');
      // A ticket comes before whatever the server says.
      socket.write('question');
      await once(socket, 'data');
      const reused = socket.isSessionReused();
      socket.destroy();
      return { tickets, reused };
    };
    const { tickets, reused } = await talk();
    t.equal(tickets.length, 0, 'no ticket');
    t.equal(reused, false);
  });
}

// Whoever ended TLS and sent on had all of it kept, at a cost that grew with what was there already.
function behindTheEndTest(t: Test, create: ReactorFactory): void {
  t.test('what a peer sends behind its end of TLS is kept nowhere', async (t) => {
    const options = tlsOptions();
    const accepted = acceptTls(useReactor(t, create), options.server);
    const { host: ip, port } = await accepted.address;
    const own = useReactor(t, () => createReactor({ backend: 'native' }));
    const hand = new HandClient(await own.connect({ to: { ip, port } }), options.client);
    const { conn, session } = hand;
    hand.finish(() => {
      session.closeNotify();
      conn.write(session.take());
    });
    const reader = new Recorder(await accepted.conn, createGuard()).start();
    await reader.ended;
    collectGarbage();
    const before = process.memoryUsage().arrayBuffers;
    const junk = Buffer.alloc(256 * 1024);
    for (let sent = 0; sent < 128; sent++) {
      conn.write(junk);
      while (conn.buffered > 0) await sleep(1);
    }
    collectGarbage();
    const kept = process.memoryUsage().arrayBuffers - before;
    t.ok(kept < 8 * 1024 * 1024, `${kept} bytes of 32 MiB`);
    session.free();
  });
}

function swapTest(t: Test, create: ReactorFactory): void {
  t.test('a certificate is replaced under an open connection: it goes on, and the next handshake has the new one', async (t) => {
    const reactor = useReactor(t, create);
    const ca = createTestCa();
    const names = { client: 'spiffe://cluster.local/ns/shop/sa/client', server: 'spiffe://cluster.local/ns/shop/sa/server' };
    const options = (): Both => ({
      client: { certificate: ca.issue(names.client), alpn: ['h2'], verifyPeer: () => undefined },
      server: { certificate: ca.issue(names.server), alpn: ['h2'], verifyPeer: () => undefined },
    });
    const open = async (): Promise<{ client: TlsConn; server: TlsConn }> => {
      const { client, server } = await bothHandshakes(reactor, options());
      if (client.status === 'rejected' || server.status === 'rejected') throw new Error('no handshake');
      return { client: client.value, server: server.value };
    };
    const old = await open();
    const guard = createGuard();
    const ends = [old.client, old.server].map((stream) => new Recorder(stream, guard).start());
    const exchange = async (size: number): Promise<void> => {
      const want = ends.map((end) => end.bytes + size);
      for (const end of ends) end.call((stream) => stream.write(Buffer.alloc(size)));
      while (ends.some((end, i) => end.bytes < (want[i] ?? 0))) await sleep(1);
    };
    await exchange(1000);
    const fresh = await open();
    t.not(fresh.client.peer.serial, old.client.peer.serial, 'the new one is presented');
    t.not(fresh.server.peer.serial, old.server.peer.serial);
    // Nobody but the open connection has the old certificate now; what belongs to it must not go while it is used.
    for (let i = 0; i < 3; i++) {
      collectGarbage();
      await exchange(100_000);
    }
    for (const end of ends) end.call((stream) => stream.end());
    for (const end of ends) t.strictSame(await end.closed, { kind: 'ended' });
    t.strictSame(guard.faults, []);
  });
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

interface Both {
  client: TlsOptions;
  server: TlsOptions;
}

interface Outcomes {
  client: PromiseSettledResult<TlsConn>;
  server: PromiseSettledResult<TlsConn>;
}

/** Both handshakes of a fresh pair. With TLS 1.3 a client may be done before the server refuses it. */
async function bothHandshakes(reactor: Reactor, options: Both): Promise<Outcomes> {
  const tcp = await tcpPair(reactor);
  const [client, server] = await Promise.allSettled([
    reactor.tlsClient(tcp.client, options.client),
    reactor.tlsServer(tcp.server, options.server),
  ]);
  return { client, server };
}

/** A listener that hands its first connection to a server handshake. */
function acceptTls(
  reactor: Reactor,
  options: TlsOptions,
): { address: Promise<{ host: string; port: number }>; conn: Promise<TlsConn> } {
  const accepted = Promise.withResolvers<Conn>();
  const conn = accepted.promise.then((tcp) => reactor.tlsServer(tcp, options));
  const address = reactor
    .listen({ address: LOOPBACK }, accepted.resolve)
    .then((listener) => ({ host: listener.address.ip, port: listener.address.port }));
  return { address, conn };
}

/** Flips a bit in whatever is written while it is active. */
class TamperingStream extends OnlyStream {
  active = false;

  override write(chunk: Uint8Array): boolean {
    const copy = Uint8Array.from(chunk);
    if (this.active) copy.set([(copy.at(-1) ?? 0) ^ 1], copy.length - 1);
    return super.write(copy);
  }
}
