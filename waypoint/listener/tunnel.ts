// A tunnel that a client opened: which chain it is for, and handing it over. This is where L4 ends and L7 begins.
import { formatHostPort, type HostPort } from '#shared/address.ts';
import type { IdTable, Numbered } from '#shared/collections/id-table.ts';
import type { Clock } from '#shared/clock.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import { parseAuthority } from '#shared/hbone/authority.ts';
import { type Baggage, parseBaggage } from '#shared/hbone/baggage.ts';
import type { BufferPool } from '#shared/http2/output.ts';
import type { ByteStream, TlsConn } from '#shared/reactor/api.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Expiry } from '../expiry.ts';
import { type ExchangeContext, type ExchangeDeps, serveExchange } from '../http/exchange.ts';
import { H1Server } from '../http/h1-server.ts';
import { H2Server } from '../http/h2.ts';
import type { ServerMessage } from '../http/message.ts';
import type { ConnectionInfo } from '../http/request.ts';
import { refusedRecord } from '../telemetry/record.ts';
import { type Detected, DetectingStream } from './detect.ts';
import { type Chain, findChain, type HttpChain, type Listener } from './listener.ts';
import { serveTcp, type TcpDeps } from './tcp.ts';

export interface TunnelDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly defer: (task: () => void) => void;
  readonly expiry: Expiry;
  /** Of the HTTP/1.1 writers. */
  readonly buffers: BufferPool;
  readonly exchange: ExchangeDeps;
  readonly tcp: TcpDeps;
  /** The HTTP connections now open, told when the process drains. */
  readonly http: IdTable<Drainable>;
}

export interface Drainable extends Numbered {
  /** Tells the client, as its protocol has it, that this connection ends; requests under way go on. */
  drain(): void;
  /** Ends it when no request is under way. A client that sends one at this moment loses it: told clients should be gone before. */
  endIdle(): void;
  close(): void;
}

type Chains = Extract<Listener, { kind: 'chains' }>;

/** What Envoy's HTTP inspector calls them. */
const PROTOCOL_NAMES: Record<Detected, string> = { http1: 'http/1.1', http2: 'h2c', other: '' };
/** Milliseconds that the client of an HTTP port may stay silent: as long as Envoy's default connection idle timeout. */
const HTTP_SILENCE_MS = 3_600_000;

/** The chains in effect at the time of the call; undefined before the first configuration. */
export type CurrentChains = () => Chains | undefined;

/** Serves one CONNECT; never rejects. */
export async function serveTunnel(
  tunnel: IncomingTunnel,
  conn: TlsConn,
  current: CurrentChains,
  deps: TunnelDeps,
): Promise<void> {
  const target = parseAuthority(tunnel.authority);
  if (target?.kind !== 'ip') {
    deps.log.warn('tunnel refused', { authority: tunnel.authority, reason: 'the target is no address and port' });
    return tunnel.refuse(400);
  }
  const listener = current();
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
    const lookUp = chainLookup(current, target.address, '');
    return serveChain(lookUp, tunnel, connection, client, deps);
  }
  const stream = new DetectingStream(tunnel.accept([]));
  const detected = await stream.detect(deps.clock, inspectTimeout);
  const lookUp = chainLookup(current, target.address, PROTOCOL_NAMES[detected]);
  const chain = lookUp();
  if (chain?.kind === 'http') return serveHttp(stream, detected, { connection, client }, lookUp, deps);
  if (!chain) return stream.reset();
  await serveTcp({ accept: () => stream, refuse: () => stream.reset() }, chain, connection, client, deps.tcp, lookUp);
}

/** The chain that a connection is on now: policies and routes may have changed since it came. */
type ChainLookup = () => Chain | undefined;

function chainLookup(current: CurrentChains, to: HostPort, protocol: string): ChainLookup {
  let seen: Chains | undefined;
  let chain: Chain | undefined;
  return () => {
    const listener = current();
    if (listener !== seen) {
      seen = listener;
      chain = listener && (findChain(listener.chains, to, protocol) ?? listener.fallback);
    }
    return chain;
  };
}

async function serveChain(
  lookUp: ChainLookup,
  tunnel: IncomingTunnel,
  connection: ConnectionInfo,
  client: Baggage,
  deps: TunnelDeps,
): Promise<void> {
  const chain = lookUp();
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
      lookUp,
    );
  }
  const stream = new DetectingStream(tunnel.accept([]));
  const detected = await stream.detect(deps.clock, HTTP_SILENCE_MS);
  serveHttp(stream, detected, { connection, client }, lookUp, deps);
}

/**
 * Anything that is not HTTP/2 is read as HTTP/1.1, whose codec says what is wrong with it. The chain is looked up for each request:
 * a policy that comes while the connection is open holds for the next request on it.
 */
function serveHttp(
  stream: ByteStream,
  detected: Detected,
  context: Omit<ExchangeContext, 'chain'>,
  lookUp: ChainLookup,
  deps: TunnelDeps,
): void {
  let inEffect: ExchangeContext | undefined;
  const contextOf = (chain: HttpChain): ExchangeContext => {
    if (inEffect?.chain !== chain) inEffect = { ...context, chain };
    return inEffect;
  };
  const onRequest = (message: ServerMessage): void => {
    const chain = lookUp();
    if (chain?.kind === 'http') serveExchange(message, contextOf(chain), deps.exchange);
    else message.reset();
  };
  const onRefused = (status: number): void => {
    const chain = lookUp();
    const record = refusedRecord(context.connection, context.client, status, deps.clock.now());
    if (chain?.kind === 'http') deps.exchange.record(record, chain);
  };
  const forget = (): void => void deps.http.delete(server);
  const server: Drainable =
    detected === 'http2'
      ? new H2Server(stream, deps, onRequest, forget)
      : new H1Server(stream, deps, onRequest, forget, onRefused);
  deps.http.add(server);
}
