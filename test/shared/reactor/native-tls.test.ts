// What only the native backend has to get right of TLS: the sessions of OpenSSL that it owns.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import type { Conn, StreamHandler, TlsOptions } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { SslContexts } from '#shared/tls/openssl-context.ts';
import type { SslSession } from '#shared/tls/openssl-session.ts';
import { countSessions } from '../../harness/ssl-sessions.ts';
import { tcpPair, tlsOptions } from './suite/pairs.ts';

const ROUNDS = 20;
const create = () => createReactor({ backend: 'native' });
const quiet: StreamHandler = {
  onData: () => undefined,
  onEnd: () => undefined,
  onDrain: () => undefined,
  onClose: () => undefined,
};

/** A client that is nothing but a session and a socket: it can end at any byte of the handshake. */
class HandClient {
  readonly conn: Conn;
  readonly session: SslSession;

  constructor(conn: Conn, { certificate, alpn }: TlsOptions) {
    this.conn = conn;
    this.session = new SslContexts({}).get(certificate, alpn).client();
  }

  /** Sends its first flight, and then nothing. */
  hello(): void {
    this.session.handshake();
    this.conn.write(this.session.take());
  }

  /** Sends its second flight and its end in one packet. */
  finishAndEnd(): void {
    this.conn.start({
      ...quiet,
      onData: (chunk) => {
        this.session.feed(chunk);
        const done = this.session.handshake();
        this.session.keep();
        if (!done) return;
        this.conn.write(this.session.take());
        this.conn.end();
      },
    });
    this.hello();
  }
}

/** How handshakes end for want of a peer, each with what remains of the server's or the client's side. */
const ENDS: Record<
  string,
  (options: { client: TlsOptions; server: TlsOptions }, pair: { client: Conn; server: Conn }) => Promise<unknown>
> = {
  'a peer that ends at once, as nc -z does': ({ server }, pair) => {
    pair.client.start(quiet);
    pair.client.end();
    return serve(pair.server, server);
  },
  'a ClientHello and an end': async ({ client, server }, pair) => {
    const hand = new HandClient(pair.client, client);
    hand.conn.start(quiet);
    hand.hello();
    hand.conn.end();
    await serve(pair.server, server);
    hand.session.free();
  },
  'a refused certificate, and the end in the same read': async ({ client, server }, pair) => {
    const hand = new HandClient(pair.client, client);
    hand.finishAndEnd();
    const verifyPeer = (): void => {
      throw new MeshError('policy_denied', 'not today');
    };
    await serve(pair.server, { ...server, verifyPeer });
    hand.session.free();
  },
  'a host that accepts and closes': ({ client }, pair) => {
    pair.server.start(quiet);
    pair.server.end();
    return reactor.tlsClient(pair.client, client).catch(() => undefined);
  },
};
const reactor = create();
t.teardown(() => reactor.close());
const serve = (conn: Conn, options: TlsOptions) => reactor.tlsServer(conn, options).catch(() => undefined);

// Each leaked a session: a connection that had ended in order waited for a reader that there would never be.
for (const [how, end] of Object.entries(ENDS))
  t.test(`a handshake that fails frees its session: ${how}`, async (t) => {
    const sessions = countSessions(t);
    const options = tlsOptions();
    for (let i = 0; i < ROUNDS; i++) {
      const pair = await tcpPair(reactor);
      await end(options, pair);
      pair.client.reset();
      pair.server.reset();
    }
    await sleep(50);
    t.equal(sessions.alive, 0);
  });
