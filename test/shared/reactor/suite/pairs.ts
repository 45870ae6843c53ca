// Two ends of one stream, in every form that a reactor makes: TCP, TLS over TCP, TLS over a stream (double HBONE).
import type { Test } from 'tap';
import type { Conn, Reactor, TlsConn, TlsOptions } from '#shared/reactor/api.ts';
import type { ByteStream, StreamHandler } from '#shared/reactor/api.ts';
import { verifyServer, verifyTrustDomain } from '#shared/tls/verify.ts';
import { createTestCa } from '../../../harness/test-ca.ts';
import { createGuard, Recorder, type Guard } from './recorder.ts';

export type ReactorFactory = () => Reactor;

export interface StreamPair {
  readonly client: Recorder;
  readonly server: Recorder;
  readonly guard: Guard;
}

export type OpenPair = (reactor: Reactor) => Promise<{ client: ByteStream; server: ByteStream }>;

export const LOOPBACK = { ip: '127.0.0.1', port: 0 };

/** A reactor that lives as long as the test. */
export function useReactor(t: Test, create: ReactorFactory): Reactor {
  const reactor = create();
  t.teardown(() => reactor.close());
  return reactor;
}

/** A test on a connected pair with recorders, not started. At its end the seam's rules must have held. */
export async function withPair(
  t: Test,
  create: ReactorFactory,
  open: OpenPair,
  run: (pair: StreamPair) => Promise<void>,
): Promise<void> {
  const guard = createGuard();
  const { client, server } = await open(useReactor(t, create));
  await run({ guard, client: new Recorder(client, guard), server: new Recorder(server, guard) });
  t.strictSame(guard.faults, [], 'the rules of the seam held');
}

export async function tcpPair(reactor: Reactor): Promise<{ client: Conn; server: Conn }> {
  const accepted = Promise.withResolvers<Conn>();
  const listener = await reactor.listen({ address: LOOPBACK }, accepted.resolve);
  const client = await reactor.connect({ to: listener.address });
  const server = await accepted.promise;
  listener.close();
  return { client, server };
}

export function tlsOptions(): { client: TlsOptions; server: TlsOptions } {
  const ca = createTestCa();
  const client = ca.issue('spiffe://cluster.local/ns/shop/sa/client');
  const server = ca.issue('spiffe://cluster.local/ns/shop/sa/server');
  return {
    client: { certificate: client, alpn: ['h2'], verifyPeer: verifyServer([server.identity]) },
    server: { certificate: server, alpn: ['h2'], verifyPeer: verifyTrustDomain(['cluster.local']) },
  };
}

export async function tlsPair(reactor: Reactor): Promise<{ client: TlsConn; server: TlsConn }> {
  const tcp = await tcpPair(reactor);
  const options = tlsOptions();
  const [client, server] = await Promise.all([
    reactor.tlsClient(tcp.client, options.client),
    reactor.tlsServer(tcp.server, options.server),
  ]);
  return { client, server };
}

export async function tlsOverStreamPair(reactor: Reactor): Promise<{ client: TlsConn; server: TlsConn }> {
  const outer = await tlsPair(reactor);
  const options = tlsOptions();
  const { local, remote } = outer.client;
  const [client, server] = await Promise.all([
    reactor.tlsClientOver(new OnlyStream(outer.client), local, remote, options.client),
    reactor.tlsServerOver(new OnlyStream(outer.server), remote, local, options.server),
  ]);
  return { client, server };
}

export const PAIRS: Record<string, OpenPair> = { TCP: tcpPair, TLS: tlsPair, 'TLS over a stream': tlsOverStreamPair };

/** Nothing but the ByteStream of a connection, as a CONNECT stream would be. */
export class OnlyStream implements ByteStream {
  readonly #inner: ByteStream;

  constructor(inner: ByteStream) {
    this.#inner = inner;
  }

  get buffered(): number {
    return this.#inner.buffered;
  }

  start(handler: StreamHandler): void {
    this.#inner.start(handler);
  }

  write(chunk: Uint8Array): boolean {
    return this.#inner.write(chunk);
  }

  end(): void {
    this.#inner.end();
  }

  reset(code?: number): void {
    this.#inner.reset(code);
  }

  pause(): void {
    this.#inner.pause();
  }

  resume(): void {
    this.#inner.resume();
  }
}
