// A tunnel that a client opened: which chain it is for, and handing it over. This is where L4 ends and L7 begins.
import { formatHostPort } from '#shared/address.ts';
import type { Clock } from '#shared/clock.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import { parseAuthority } from '#shared/hbone/authority.ts';
import { type Baggage, parseBaggage } from '#shared/hbone/baggage.ts';
import type { ByteStream, TlsConn } from '#shared/reactor/api.ts';
import type { Log } from '#shared/telemetry/log.ts';
import { type ExchangeContext, type ExchangeDeps, serveExchange } from '../http/exchange.ts';
import { H1Server } from '../http/h1-server.ts';
import { serveH2 } from '../http/h2.ts';
import type { ConnectionInfo } from '../http/request.ts';
import { type Detected, DetectingStream } from './detect.ts';
import { type Chain, findChain, type HttpChain, type Listener } from './listener.ts';
import { serveTcp, type TcpDeps } from './tcp.ts';

export interface TunnelDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly defer: (task: () => void) => void;
  readonly exchange: ExchangeDeps;
  readonly tcp: TcpDeps;
  /** The HTTP connections now open, told when the process drains. */
  readonly http: Set<Drainable>;
}

export interface Drainable {
  drain(): void;
  close(): void;
}

type Chains = Extract<Listener, { kind: 'chains' }>;

/** What Envoy's HTTP inspector calls them. */
const PROTOCOL_NAMES: Record<Detected, string> = { http1: 'http/1.1', http2: 'h2c', other: '' };
/** Milliseconds that the client of an HTTP port may stay silent: as long as Envoy's default connection idle timeout. */
const HTTP_SILENCE_MS = 3_600_000;

/** Serves one CONNECT; never rejects. */
export async function serveTunnel(
  tunnel: IncomingTunnel,
  conn: TlsConn,
  listener: Chains | undefined,
  deps: TunnelDeps,
): Promise<void> {
  const target = parseAuthority(tunnel.authority);
  if (target?.kind !== 'ip') {
    deps.log.warn('tunnel refused', { authority: tunnel.authority, reason: 'the target is no address and port' });
    return tunnel.refuse(400);
  }
  if (!listener) return tunnel.refuse(503);
  const connection: ConnectionInfo = {
    peer: conn.peer.uris[0] ?? '',
    local: deps.exchange.identity,
    remote: conn.remote,
    destination: target.address,
  };
  const client = parseBaggage(tunnel.headers);
  const { inspects, inspectTimeout } = listener;
  if (!inspects(target.address.port)) {
    const chain = findChain(listener.chains, target.address, '') ?? listener.fallback;
    return serveChain(chain, tunnel, connection, client, deps);
  }
  const stream = new DetectingStream(tunnel.accept([]));
  const detected = await stream.detect(deps.clock, inspectTimeout);
  const chain = findChain(listener.chains, target.address, PROTOCOL_NAMES[detected]) ?? listener.fallback;
  if (chain?.kind === 'http') return serveHttp(stream, detected, { chain, connection, client }, deps);
  if (!chain) return stream.reset();
  await serveTcp({ accept: () => stream, refuse: () => stream.reset() }, chain, connection, client, deps.tcp);
}

async function serveChain(
  chain: Chain | undefined,
  tunnel: IncomingTunnel,
  connection: ConnectionInfo,
  client: Baggage,
  deps: TunnelDeps,
): Promise<void> {
  if (!chain) {
    deps.log.warn('tunnel refused', { dst: formatHostPort(connection.destination), reason: 'this waypoint does not serve it' });
    return tunnel.refuse(404);
  }
  if (chain.kind === 'tcp') {
    return serveTcp(
      { accept: () => tunnel.accept([]), refuse: (status) => tunnel.refuse(status) },
      chain,
      connection,
      client,
      deps.tcp,
    );
  }
  const stream = new DetectingStream(tunnel.accept([]));
  const detected = await stream.detect(deps.clock, HTTP_SILENCE_MS);
  serveHttp(stream, detected, { chain, connection, client }, deps);
}

/** Anything that is not HTTP/2 is read as HTTP/1.1, whose codec says what is wrong with it. */
function serveHttp(
  stream: ByteStream,
  detected: Detected,
  context: ExchangeContext & { chain: HttpChain },
  deps: TunnelDeps,
): void {
  const onRequest = (message: Parameters<typeof serveExchange>[0]): void => void serveExchange(message, context, deps.exchange);
  const forget = (): void => void deps.http.delete(server);
  const server: Drainable =
    detected === 'http2' ? serveH2(stream, deps, onRequest, forget) : new H1Server(stream, deps, onRequest, forget);
  deps.http.add(server);
}
