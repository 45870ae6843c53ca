// What is offered and taken in handshakes, shown by peers of node:tls that can do one thing alone (facts: ztunnel 5).
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect as tlsConnect, createServer } from 'node:tls';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import type { Test } from 'tap';
import type { Reactor, TlsConn } from '#shared/reactor/api.ts';
import { LOOPBACK, tlsOptions, useReactor, type ReactorFactory } from './pairs.ts';

const PEERS: [only: string, options: SecureContextOptions, taken: boolean][] = [
  ['TLS_AES_256_GCM_SHA384', { ciphers: 'TLS_AES_256_GCM_SHA384' }, true],
  ['TLS_AES_128_GCM_SHA256', { ciphers: 'TLS_AES_128_GCM_SHA256' }, true],
  ['TLS_CHACHA20_POLY1305_SHA256', { ciphers: 'TLS_CHACHA20_POLY1305_SHA256' }, false],
  ['X25519', { ecdhCurve: 'X25519' }, true],
  ['P-256', { ecdhCurve: 'P-256' }, true],
  ['P-384', { ecdhCurve: 'P-384' }, true],
  ['P-521', { ecdhCurve: 'P-521' }, false],
  ['X448', { ecdhCurve: 'X448' }, false],
];

export function cipherSuite(t: Test, create: ReactorFactory): void {
  for (const [only, options, taken] of PEERS) {
    const verdict = taken ? 'is served' : 'is refused';
    t.test(`a client that has ${only} alone ${verdict}`, async (t) => {
      const outcome = await serve(useReactor(t, create), options);
      if (taken) t.match(outcome, { status: 'fulfilled' });
      else t.match(outcome, { status: 'rejected', reason: { code: 'tls_failure' } });
    });

    t.test(`a server that has ${only} alone ${taken ? 'is taken' : verdict}`, async (t) => {
      const { outcome } = await dial(t, create, options);
      if (taken) t.match(outcome, { status: 'fulfilled' });
      else t.match(outcome, { status: 'rejected', reason: { code: 'tls_failure' } });
    });
  }

  t.test('a client names no server', async (t) => {
    const { outcome, accepted } = await dial(t, create, {});
    t.match(outcome, { status: 'fulfilled' });
    t.equal((await accepted).servername, false);
  });
}

/** Our server's outcome with such a client. */
async function serve(reactor: Reactor, peer: SecureContextOptions): Promise<PromiseSettledResult<TlsConn>> {
  const { client, server } = tlsOptions();
  const outcome = Promise.withResolvers<PromiseSettledResult<TlsConn>>();
  const listener = await reactor.listen({ address: LOOPBACK }, (conn) => {
    void Promise.allSettled([reactor.tlsServer(conn, server)]).then(([settled]) => outcome.resolve(settled));
  });
  const { ip: host, port } = listener.address;
  const { chain: cert, key, roots: ca } = client.certificate;
  const socket = tlsConnect({
    host,
    port,
    cert,
    key,
    ca,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    checkServerIdentity: () => undefined,
    ...peer,
  });
  socket.on('error', () => undefined);
  const settled = await outcome.promise;
  socket.destroy();
  return settled;
}

/** Our client's outcome with such a server, and what that server has of it. */
async function dial(t: Test, create: ReactorFactory, peer: SecureContextOptions) {
  const { client, server } = tlsOptions();
  const { chain: cert, key, roots: ca } = server.certificate;
  const listener = createServer({ cert, key, ca, requestCert: true, ALPNProtocols: ['h2'], minVersion: 'TLSv1.3', ...peer });
  listener.on('tlsClientError', () => undefined);
  const accepted = Promise.withResolvers<TLSSocket>();
  listener.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
    accepted.resolve(socket);
  });
  listener.listen(0, LOOPBACK.ip);
  t.teardown(() => listener.close());
  await once(listener, 'listening');
  const reactor = useReactor(t, create);
  const conn = await reactor.connect({ to: { ip: LOOPBACK.ip, port: (listener.address() as AddressInfo).port } });
  const [outcome] = await Promise.allSettled([reactor.tlsClient(conn, client)]);
  return { outcome, accepted: accepted.promise };
}
