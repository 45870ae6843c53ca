// Port 15001 of a pod: what its application sends. Finds out whose it is and where it should go, opens the way there, and joins the two.
import type { HostPort } from '#shared/address.ts';
import { formatHostPort, knownAddress } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { WorkloadUid } from '#shared/ids.ts';
import type { CancelSignal } from '#shared/lifecycle/cancel.ts';
import { parseBaggage } from '#shared/hbone/baggage.ts';
import type { Tunnel } from '#shared/hbone/api.ts';
import { isSpiffeId } from '#shared/ids.ts';
import type { ByteStream, Conn, SocketOptions } from '#shared/reactor/api.ts';
import { fetchDestination } from '../state/fetch.ts';
import type { Service, Workload } from '../state/model.ts';
import type { EndpointLoad } from '../state/two-choices.ts';
import type { ConnectionFacts } from '../telemetry/connection-result.ts';
import type { Peer } from '../telemetry/peer.ts';
import { UNKNOWN_PEER, peerOf, peerOfBaggage } from '../telemetry/peer.ts';
import { FirstBytes } from './first-bytes.ts';
import { OutboundCarriage } from './outbound-carriage.ts';
import type { Pod, ProxyContext } from './pod.ts';
import { isCapturePort, isLoopback, podSocket, tunnelSocket, workloadOf } from './pod.ts';
import { openSameNode, sameNodePod, servedPod } from './same-node.ts';
import type { SameNodeEnd } from './same-node.ts';
import { TunnelHeaders } from './tunnel-headers.ts';
import type { Stay } from './stay.ts';
import type { NamedRoute, Route } from './upstream.ts';
import { decideRoute } from './upstream.ts';

/** A first endpoint that cannot be connected to is followed by one other, which gets all that the client has sent. */
const MAX_ATTEMPTS = 2;
const NONE: ReadonlySet<WorkloadUid> = new Set();

/** One connection of an application. */
export interface OutboundClient {
  readonly conn: Conn;
  readonly stay: Stay;
  /** Its address in the pod's network. */
  readonly from: HostPort;
  readonly source: Workload;
  /** Where the application meant to go. */
  readonly to: HostPort;
  readonly startedAt: number;
}

/** How a client hears whether it has its connection. */
export interface ClientAnswer {
  opened(): void;
  failed(error: MeshError): unknown;
}

/** The way to the destination. */
interface Upstream {
  readonly stream: ByteStream;
  /** The destination's side, when that is in this process too. */
  readonly local?: SameNodeEnd;
  /** Who answers beyond a network gateway, as it says itself. */
  readonly beyond?: Peer;
}

type Attempt =
  | { readonly route: Route; readonly upstream: Upstream }
  | { readonly route: Route | undefined; readonly error: MeshError };

export class Outbound {
  readonly #context: ProxyContext;
  readonly #pod: Pod;
  readonly #headers = new TunnelHeaders();
  readonly #socket: SocketOptions;
  readonly #tunnelSocket: SocketOptions;

  constructor(context: ProxyContext, pod: Pod) {
    this.#context = context;
    this.#pod = pod;
    this.#socket = podSocket(pod, context);
    this.#tunnelSocket = tunnelSocket(pod, context);
  }

  /** Takes an accepted connection to where it wants to go, and resolves once it is on its way; never rejects. Owns the stay. */
  async serve(conn: Conn, stay: Stay): Promise<void> {
    const startedAt = this.#context.clock.monotonic();
    const meant = conn.originalDestination();
    const to = knownAddress(meant.ip, meant.port);
    let client: OutboundClient;
    try {
      if (isLoopback(to.ip) && isCapturePort(to.port, this.#context.config))
        throw new MeshError('self_call', 'attempted recursive call to ourselves');
      client = { conn, stay, from: conn.remote, to, startedAt, source: await workloadOf(this.#pod, this.#context) };
    } catch (thrown) {
      stay[Symbol.dispose]();
      this.#context.telemetry.refusedEarly(conn.remote, to, 'outbound', MeshError.from(thrown));
      return conn.reset();
    }
    await this.carry(client);
  }

  /** Takes a client where it wants to go; never rejects. Who was redirected sees a failure as a reset. */
  async carry(client: OutboundClient, answer?: ClientAnswer): Promise<void> {
    const first = new FirstBytes(client.conn);
    const attempt = await this.#open(client, first);
    const { conn, from, to, startedAt, stay } = client;
    const result = this.#context.telemetry.open(this.#facts(client, attempt), startedAt);
    if ('error' in attempt) {
      stay[Symbol.dispose]();
      result.end(attempt.error);
      if (answer) await answer.failed(attempt.error);
      else conn.reset();
      return;
    }
    answer?.opened();
    const { route, upstream } = attempt;
    const { bytes } = first;
    if (bytes && !first.sent) upstream.stream.write(bytes);
    const carriage = new OutboundCarriage(conn, upstream.stream, {
      context: this.#context,
      pod: this.#pod,
      from,
      to,
      route,
      local: upstream.local,
      load: loadOf(route),
      result,
      stay,
    });
    if (bytes) carriage.sentBefore(bytes.length);
    carriage.begin();
    first.forget();
    this.#context.specimens.keep(upstream.local ? 'same node' : route.kind, client, attempt, first, carriage);
  }

  /** Decides and connects, and does so once more without the endpoint that failed. */
  async #open(client: OutboundClient, first: FirstBytes): Promise<Attempt> {
    const { ejections } = this.#context.balancer;
    const { demand, store, config } = this.#context;
    if (demand)
      try {
        await fetchDestination(store, demand, { network: config.network, to: client.to, namespace: client.source.namespace });
      } catch (thrown) {
        return { route: undefined, error: MeshError.from(thrown) };
      }
    let exclude = NONE;
    let failed: { route: Route | undefined; error: MeshError } | undefined;
    for (let attempt = 1; ; attempt++) {
      let decided: Route | NamedRoute;
      try {
        decided = this.#decide(client, exclude);
      } catch (thrown) {
        // Without another endpoint, what the first one said is the answer.
        return failed ?? { route: undefined, error: MeshError.from(thrown) };
      }
      const load = loadOf(decided);
      if (load) load.inFlight += 1;
      let route: Route | undefined;
      first.sent = false;
      try {
        route = decided.kind === 'named' ? await this.#lookUp(client, decided) : decided;
        const upstream = await this.#connect(client, route, first);
        if (load) ejections.succeeded(load.uid, portOf(route));
        return { route, upstream };
      } catch (thrown) {
        const error = this.#pod.drain.cut.reason ?? MeshError.from(thrown);
        if (load) load.inFlight -= 1;
        if (load && isFaultOfEndpoint(decided, error))
          ejections.failed(load.uid, isOfWorkload(route, error) ? undefined : portOf(route));
        if (!mayTryAnother(error, first) || decided.kind === 'passthrough' || attempt === MAX_ATTEMPTS) return { route, error };
        exclude = new Set([...exclude, decided.workload.uid]);
        failed = { route, error };
      }
    }
  }

  #decide({ from, source, to }: OutboundClient, exclude: ReadonlySet<WorkloadUid>): Route | NamedRoute {
    const { store, balancer, config } = this.#context;
    return decideRoute(store, {
      source,
      sourceIp: from.ip,
      to,
      network: config.network,
      exclude,
      balancer,
      random: Math.random,
    });
  }

  async #lookUp({ source }: OutboundClient, { hostname, at }: NamedRoute): Promise<Route> {
    const { telemetry, names } = this.#context;
    telemetry.metrics.lookedUp(peerOf(source, source.identity), hostname);
    return at(await names.resolve(hostname));
  }

  async #connect(client: OutboundClient, route: Route, early: FirstBytes): Promise<Upstream> {
    const { cut: cancel } = this.#pod.drain;
    if (route.kind === 'gateway') return await this.#connectThrough(client, route, cancel);
    if (route.kind !== 'hbone') return { stream: await this.#context.reactor.connect({ ...this.#socket, to: route.to, cancel }) };
    const { from, source, startedAt } = client;
    const served = servedPod(this.#context, route);
    const pod = served instanceof Promise ? await served : served;
    if (pod) {
      const local = await openSameNode(this.#context, { pod, route, source, from, startedAt });
      return { stream: local.app, local };
    }
    const { stream } = await this.#pod.pool.open({
      peer: {
        source: source.identity,
        accepted: this.#context.trust.spellingsOf(route.accepted),
        to: route.to,
        sourceIp: from.ip,
      },
      authority: formatHostPort(route.authority),
      headers: this.#headers.of(source, from, route.service?.hostname),
      socket: this.#tunnelSocket,
      cancel,
      early,
    });
    return { stream };
  }

  /** Addresses of another network say nothing there: who calls tells by headers of the tunnel inside. */
  async #connectThrough(
    { from, source }: OutboundClient,
    { to, authority, gateway, accepted, service }: Extract<Route, { kind: 'gateway' }>,
    cancel: CancelSignal,
  ): Promise<Upstream> {
    const headers = this.#headers.of(source, from, service?.hostname);
    const { network, responseBaggage } = this.#context.config;
    const { trust } = this.#context;
    const tunnel = await this.#pod.pool.openThrough(
      {
        peer: { source: source.identity, accepted: trust.spellingsOf(gateway), to, sourceIp: from.ip },
        authority,
        headers,
        socket: this.#socket,
        cancel,
      },
      { accepted: trust.spellingsOf(accepted), headers: [...headers, ['x-forwarded-network', network]] },
    );
    return { stream: tunnel.stream, beyond: peerBeyond(tunnel, responseBaggage) };
  }

  #facts({ from, source, to }: OutboundClient, attempt: Attempt): ConnectionFacts {
    const { route } = attempt;
    const service = route ? route.service : this.#meant(source, to);
    // Of one shape and made at once: spread together, the facts of a connection take half as much again.
    const facts = (to: HostPort, who: Peer, destination: Peer, hboneAddress?: HostPort | string): ConnectionFacts => ({
      reporter: 'source',
      from,
      to,
      hboneAddress,
      source: who,
      destination,
      service,
      mutualTls: hboneAddress !== undefined,
    });
    switch (route?.kind) {
      case undefined:
      case 'passthrough':
        return facts(route?.to ?? to, peerOf(source), UNKNOWN_PEER);
      case 'plain':
        return facts(route.to, peerOf(source), peerOf(route.workload));
      case 'hbone': {
        const [who, destination] = [peerOf(source, source.identity), peerOf(route.workload, route.workload.identity)];
        // Within the node nothing listens on 15008 for it: the application is dialled.
        if (sameNodePod(this.#context, route)) return facts(route.authority, who, destination);
        return facts(route.to, who, destination, route.authority);
      }
      case 'gateway': {
        const beyond = 'upstream' in attempt ? attempt.upstream.beyond : undefined;
        return facts(route.to, peerOf(source, source.identity), beyond ?? peerOf(route.workload), route.authority);
      }
    }
  }

  /** The service that has no way to it. */
  #meant(source: Workload, to: HostPort): Service | undefined {
    const { store, config } = this.#context;
    return store.services.byVip(config.network, to.ip, source.namespace);
  }
}

function peerBeyond({ peer, headers }: Tunnel, useBaggage: boolean): Peer {
  const identity = peer.uris.find(isSpiffeId);
  return useBaggage ? peerOfBaggage(parseBaggage(headers), identity) : peerOf(undefined, identity);
}

/** The counter of the endpoint that was chosen among several. */
function loadOf(route: Route | NamedRoute): EndpointLoad | undefined {
  return route.kind === 'passthrough' ? undefined : route.load;
}

/** The endpoint's port that was tried, where it is one of several that the workload has. */
function portOf(route: Route | undefined): number | undefined {
  if (route?.kind === 'plain') return route.to.port;
  if (route?.kind !== 'hbone') return undefined;
  return route.via === 'workload' ? route.authority.port : route.to.port;
}

/** An application must not get what a client sent twice: once it went along with CONNECT, only an answer tells that nobody has it. */
function mayTryAnother(error: MeshError, { sent }: FirstBytes): boolean {
  return error.retry && (!sent || error.code === 'tunnel_unavailable');
}

/** A tunnel that cannot be opened says nothing of what is behind it; one that is answered says that the application is not there. */
function isOfWorkload(route: Route | undefined, error: MeshError): boolean {
  return route?.kind === 'hbone' && error.code !== 'tunnel_unavailable';
}

/** Whether others had better go elsewhere for a while. A waypoint that says 503 may mean the one service that was asked for. */
function isFaultOfEndpoint(route: Route | NamedRoute, error: MeshError): boolean {
  return error.retry && !(error.code === 'tunnel_unavailable' && 'via' in route && route.via === 'waypoint');
}
