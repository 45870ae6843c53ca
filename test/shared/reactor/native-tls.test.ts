// What only the native backend has to get right of TLS: the sessions of OpenSSL that it owns.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import type { Conn, TlsOptions } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { HandClient, quiet } from '../../harness/hand-client.ts';
import { countSessions } from '../../harness/ssl-sessions.ts';
import { tcpPair, tlsOptions } from './suite/pairs.ts';

const ROUNDS = 20;
const create = () => createReactor({ backend: 'native' });

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
    hand.finish(() => hand.conn.end());
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
