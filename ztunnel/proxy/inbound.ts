// Port 15008 of a pod: tunnels of the mesh. Proves who calls, asks the policies, opens the application, and joins the two.
import { MeshError } from '#shared/errors.ts';
import type { HeaderList, IncomingTunnel } from '#shared/hbone/api.ts';
import { parseAuthority } from '#shared/hbone/authority.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import { parseSpiffeId } from '#shared/ids.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import type { CloseReason, Conn, PeerCertificate, TlsConn } from '#shared/reactor/api.ts';
import { faultFields } from '#shared/reactor/fault.ts';
import type { Workload } from '../state/model.ts';
import type { ConnectionFacts, ConnectionResult, HandshakeEnds } from '../telemetry/connection-result.ts';
import { baggageTextOf, peerOf } from '../telemetry/peer.ts';
import { Delivered } from './delivered.ts';
import type { Admission } from './delivery.ts';
import { Delivery } from './delivery.ts';
import type { InboundTarget } from './inbound-target.ts';
import { guessService, inboundTarget } from './inbound-target.ts';
import type { TunnelOrigin } from './inbound-tunnel.ts';
import { tunnelOrigin } from './inbound-tunnel.ts';
import type { Pod, ProxyContext } from './pod.ts';
import { workloadOf } from './pod.ts';
import { proxyHeader } from './proxy-protocol.ts';
import { Stays, type Stay } from './stay.ts';
import { fetchDestination, fetchHost, fetchServices } from '../state/fetch.ts';
import { networkAddress } from '../state/model.ts';
import type { Demand } from '../state/on-demand.ts';

/** One connection of a peer; its tunnels share it. */
interface PeerConnection {
  readonly conn: TlsConn;
  readonly workload: Workload;
}

/** What a tunnel asks for, understood. */
interface Request {
  readonly target: InboundTarget;
  readonly origin: TunnelOrigin;
}

export class Inbound {
  readonly #context: ProxyContext;
  readonly #pod: Pod;
  readonly #delivery: Delivery;
  readonly #tunnels: Stays;

  constructor(context: ProxyContext, pod: Pod) {
    this.#context = context;
    this.#pod = pod;
    this.#delivery = new Delivery(context, pod);
    this.#tunnels = new Stays(context.limit, pod.drain);
  }

  /** Serves an accepted connection to its end; never rejects. Owns the stay. */
  async serve(conn: Conn, stay: Stay): Promise<void> {
    using _stay = stay;
    const { remote, local } = conn;
    const ends: HandshakeEnds = {};
    try {
      const peer = await this.#handshake(conn, ends);
      await this.#serveTunnels(peer);
    } catch (thrown) {
      const error = MeshError.from(thrown);
      this.#context.revocations?.handshakeFailed('destination', error);
      this.#context.telemetry.refusedEarly(remote, local, 'inbound', error, ends);
      conn.reset();
    }
  }

  async #handshake(conn: Conn, ends: HandshakeEnds): Promise<PeerConnection> {
    const workload = await workloadOf(this.#pod, this.#context);
    ends.own = workload.identity;
    const certificate = await this.#context.certificates.get(workload.identity);
    const tls = await this.#context.reactor.tlsServer(conn, {
      certificate,
      alpn: ['h2'],
      verifyPeer: (peer) => {
        const [identity] = peer.uris;
        if (identity !== undefined) ends.peer = identity;
        requireTrustDomain(peer, this.#context.trust.alike(workload.trustDomain));
      },
    });
    return { conn: tls, workload };
  }

  /** Resolves when the connection is over. */
  #serveTunnels(peer: PeerConnection): Promise<void> {
    const closed = Promise.withResolvers<void>();
    const { reactor, clock, config, buffers } = this.#context;
    const { draining, force } = this.#pod.drain;
    const session = serveHbone(
      peer.conn,
      {
        reactor,
        clock,
        buffers,
        settings: config.http2,
        maxAge: config.maxTunnelAge,
        onClose: (reason) => {
          this.#tell(peer, reason);
          draining.removeEventListener('abort', drain);
          force.removeEventListener('abort', close);
          watched?.[Symbol.dispose]();
          closed.resolve();
        },
      },
      (tunnel) => {
        this.#serveTunnel(peer, tunnel).catch((thrown: unknown) => this.#fault(tunnel, thrown));
      },
    );
    const drain = (): void => void session.drain();
    const close = (): void => session.close();
    const watched = this.#context.revocations?.watch(session);
    draining.addEventListener('abort', drain, { once: true });
    force.addEventListener('abort', close, { once: true });
    if (draining.aborted) drain();
    return closed.promise;
  }

  /** What a peer did wrong is told also when it had no tunnel whose line could say so. */
  #tell({ conn, workload }: PeerConnection, reason: CloseReason): void {
    if (reason.kind !== 'error' || reason.error.code !== 'protocol_error') return;
    const [identity] = conn.peer.uris;
    const ends: HandshakeEnds = { own: workload.identity, ...(identity === undefined ? {} : { peer: identity }) };
    this.#context.telemetry.refusedEarly(conn.remote, conn.local, 'inbound', reason.error, ends);
  }

  /** One tunnel: understand, admit, connect, answer, relay. Nothing answers 200 before the application is connected. */
  async #serveTunnel(peer: PeerConnection, tunnel: IncomingTunnel): Promise<void> {
    const { telemetry, clock, demand } = this.#context;
    const startedAt = clock.monotonic();
    let stay: Stay | undefined;
    let request: Request;
    try {
      stay = this.#tunnels.take('tunnel');
      if (demand) await this.#fetch(demand, peer, tunnel);
      request = this.#understand(peer, tunnel);
    } catch (thrown) {
      stay?.[Symbol.dispose]();
      const error = MeshError.from(thrown);
      telemetry.refusedEarly(peer.conn.remote, peer.conn.local, 'inbound', error);
      return tunnel.refuse(error.status);
    }
    let result: ConnectionResult | undefined;
    let admission: Admission | undefined;
    let answered = false;
    let app: Conn | undefined;
    try {
      result = telemetry.open(this.#facts(peer, request), startedAt);
      admission = this.#admit(peer, request);
      // What came along with the request is read by the end of the turn.
      await Promise.resolve();
      const opened = this.#connect(peer, request, admission, tunnel);
      // Without a wait the application has its first bytes before the next one is connected.
      app = opened instanceof Promise ? await opened : opened;
      const stream = tunnel.accept(this.#answerHeaders(peer));
      answered = true;
      if (request.target.proxyHeader) app.write(proxyHeaderOf(peer, request));
      const bytes = tunnel.takeBytes();
      if (bytes) app.write(bytes);
      const delivered = new Delivered(stream, app, { admission, result, stay });
      if (bytes) delivered.sentBefore(bytes.length);
      delivered.begin();
      this.#context.specimens.keep('tunnel', tunnel, request, delivered);
    } catch (thrown) {
      const error = MeshError.from(thrown);
      admission?.[Symbol.dispose]();
      stay[Symbol.dispose]();
      app?.reset();
      if (!result) throw error;
      if (!answered) tunnel.refuse(error.status);
      result.end(error);
    }
  }

  /** A fault of ours ends the tunnel that it happened in, and nothing else. */
  #fault(tunnel: IncomingTunnel, thrown: unknown): void {
    const error = MeshError.from(thrown);
    this.#context.log.error('a fault of this process closed a tunnel', faultFields(error));
    tunnel.refuse(error.status);
  }

  /** What the authority names. Who calls and what is served only names things in the log: they are known the next time. */
  async #fetch(demand: Demand, { conn, workload }: PeerConnection, tunnel: IncomingTunnel): Promise<void> {
    const { store, config } = this.#context;
    const { network, namespace } = workload;
    fetchServices(store, demand, workload).catch(ignore);
    if (!store.workloads.byAddress(network, conn.remote.ip)) demand.fetch(networkAddress(network, conn.remote.ip)).catch(ignore);
    const authority = parseAuthority(tunnel.authority);
    if (authority?.kind === 'host')
      await fetchHost(demand, { hostname: authority.host, namespace, clusterDomain: config.clusterDomain });
    else if (authority && authority.address.ip !== conn.local.ip && !workload.applicationTunnel)
      await fetchDestination(store, demand, { network, to: authority.address, namespace });
  }

  #understand({ conn, workload }: PeerConnection, tunnel: IncomingTunnel): Request {
    const { store, config } = this.#context;
    const authority = parseAuthority(tunnel.authority);
    if (!authority) throw new MeshError('bad_request', `"${tunnel.authority}" is not an authority like HOST:PORT`);
    const current = store.workloads.get(workload.uid) ?? workload;
    const target = inboundTarget(store, current, conn.local, authority, this.#context.config);
    const origin = tunnelOrigin(store, {
      certificate: conn.peer,
      remote: conn.remote,
      headers: tunnel.headers,
      workload: current,
      network: config.network,
      useBaggage: config.responseBaggage,
    });
    return { target, origin };
  }

  #admit({ conn, workload }: PeerConnection, { target, origin }: Request) {
    return this.#delivery.admit({
      workload,
      source: conn.remote,
      identity: origin.identity,
      to: target.to,
      originalDestination: conn.local,
      protocol: 'HBONE',
    });
  }

  /** An application that speaks PROXY may listen on loopback only; it learns the client's address from the header. */
  #connect({ conn }: PeerConnection, { target }: Request, admission: Admission, tunnel: IncomingTunnel): Conn | Promise<Conn> {
    const { to, proxyHeader: announced } = target;
    const first = { bytesFollow: announced || tunnel.bytesWait };
    const scope = new CancelScope(admission, tunnel.cancel);
    const ip = to.ip.includes(':') ? '::1' : '127.0.0.1';
    const opened =
      announced && this.#context.config.localhostAppTunnel
        ? this.#delivery.connect({ ip, port: to.port }, { ip, port: 0 }, scope, first)
        : this.#delivery.connect(to, conn.remote, scope, first);
    if (opened instanceof Promise) return opened.finally(() => scope[Symbol.dispose]());
    scope[Symbol.dispose]();
    return opened;
  }

  #answerHeaders({ workload }: PeerConnection): HeaderList {
    return this.#context.config.responseBaggage ? [['baggage', baggageTextOf(workload)]] : [];
  }

  #facts({ conn, workload }: PeerConnection, { target, origin }: Request): ConnectionFacts {
    return {
      reporter: 'destination',
      from: conn.remote,
      to: conn.local,
      hboneAddress: target.askedHost === undefined ? target.asked : `${target.askedHost}:${target.asked.port}`,
      source: origin.peer,
      destination: peerOf(workload, workload.identity),
      service: guessService(this.#context.store, workload, target.to.port, origin.serviceHost),
      mutualTls: true,
    };
  }
}

function proxyHeaderOf({ conn }: PeerConnection, { target, origin }: Request): Uint8Array {
  return proxyHeader({
    source: conn.remote,
    destination: target.asked,
    identity: origin.identity,
    targetHost: target.askedHost,
  });
}

/** Throws `identity_mismatch` unless the peer has an identity of one of the trust domains. */
function requireTrustDomain(peer: PeerCertificate, expected: readonly string[]): void {
  if (peer.uris.some((uri) => expected.includes(parseSpiffeId(uri)?.trustDomain ?? ''))) return;
  const got = peer.uris.join(', ') || 'none';
  throw new MeshError(
    'identity_mismatch',
    `identity verification error: peer did not present the expected trustdomain (${expected.join(', ')}), got ${got}`,
  );
}

function ignore(): void {}
