// Port 15001 of a pod: what its application sends. Finds out whose it is and where it should go, opens the way there, and joins the two.
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { WorkloadUid } from '#shared/ids.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import type { ByteStream, Conn } from '#shared/reactor/api.ts';
import type { Service, Workload } from '../state/model.ts';
import type { EndpointLoad } from '../state/two-choices.ts';
import type { ConnectionFacts, ConnectionResult } from '../telemetry/connection-result.ts';
import { peerOf } from '../telemetry/peer.ts';
import { join } from './join.ts';
import type { Pod, ProxyContext } from './pod.ts';
import { isCapturePort, isLoopback, podSocket, workloadOf } from './pod.ts';
import { openSameNode, sameNodePod } from './same-node.ts';
import type { SameNodeEnd } from './same-node.ts';
import { TunnelHeaders } from './tunnel-headers.ts';
import type { Route } from './upstream.ts';
import { decideRoute } from './upstream.ts';

/** A first endpoint that cannot be connected to is followed by one other; the client has sent nothing yet. */
const MAX_ATTEMPTS = 2;

/** One connection of an application. */
export interface OutboundClient {
  readonly conn: Conn;
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
}

type Attempt =
  | { readonly route: Route; readonly upstream: Upstream }
  | { readonly route: Route | undefined; readonly error: MeshError };

export class Outbound {
  readonly #context: ProxyContext;
  readonly #pod: Pod;
  readonly #headers = new TunnelHeaders();

  constructor(context: ProxyContext, pod: Pod) {
    this.#context = context;
    this.#pod = pod;
  }

  /** Serves an accepted connection to its end; never rejects. */
  async serve(conn: Conn): Promise<void> {
    using _hold = this.#pod.drain.hold();
    const startedAt = this.#context.clock.monotonic();
    const to = conn.originalDestination();
    let client: OutboundClient;
    try {
      if (isLoopback(to.ip) && isCapturePort(to.port, this.#context.config))
        throw new MeshError('self_call', 'attempted recursive call to ourselves');
      client = { conn, from: conn.remote, to, startedAt, source: await workloadOf(this.#pod, this.#context) };
    } catch (thrown) {
      this.#context.telemetry.refusedEarly(conn.remote, to, 'outbound', MeshError.from(thrown));
      return conn.reset();
    }
    await this.carry(client);
  }

  /** Takes a client where it wants to go, to the end of the connection; never rejects. Who was redirected sees a failure as a reset. */
  async carry(client: OutboundClient, answer?: ClientAnswer): Promise<void> {
    const attempt = await this.#open(client);
    const result = this.#context.telemetry.open(this.#facts(client, attempt.route), client.startedAt);
    if ('error' in attempt) {
      result.end(attempt.error);
      if (answer) await answer.failed(attempt.error);
      else client.conn.reset();
      return;
    }
    answer?.opened();
    const load = loadOf(attempt.route);
    try {
      await this.#relay(client, attempt.upstream, attempt.route, result);
    } finally {
      if (load) load.inFlight -= 1;
    }
  }

  /** Decides and connects, and does so once more without the endpoint that failed. */
  async #open(client: OutboundClient): Promise<Attempt> {
    const { ejections } = this.#context.balancer;
    const exclude = new Set<WorkloadUid>();
    let failed: { route: Route; error: MeshError } | undefined;
    for (let attempt = 1; ; attempt++) {
      let route: Route;
      try {
        route = this.#decide(client, exclude);
      } catch (thrown) {
        // Without another endpoint, what the first one said is the answer.
        return failed ?? { route: undefined, error: MeshError.from(thrown) };
      }
      const load = loadOf(route);
      if (load) load.inFlight += 1;
      try {
        const upstream = await this.#connect(client, route);
        if (load) ejections.succeeded(load.uid);
        return { route, upstream };
      } catch (thrown) {
        const error = this.#pod.drain.cut.reason ?? MeshError.from(thrown);
        if (load) load.inFlight -= 1;
        if (load && isFaultOfEndpoint(route, error)) ejections.failed(load.uid);
        if (!error.retry || route.kind === 'passthrough' || attempt === MAX_ATTEMPTS) return { route, error };
        exclude.add(route.workload.uid);
        failed = { route, error };
      }
    }
  }

  #decide({ from, source, to }: OutboundClient, exclude: ReadonlySet<WorkloadUid>): Route {
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

  async #connect(client: OutboundClient, route: Route): Promise<Upstream> {
    const socket = podSocket(this.#pod, this.#context);
    const { cut: cancel } = this.#pod.drain;
    if (route.kind !== 'hbone') return { stream: await this.#context.reactor.connect({ ...socket, to: route.to, cancel }) };
    const { from, source, startedAt } = client;
    const pod = sameNodePod(this.#context, route);
    if (pod) {
      const local = await openSameNode(this.#context, { pod, route, source, from, startedAt });
      return { stream: local.app, local };
    }
    const { stream } = await this.#pod.pool.open({
      peer: { source: source.identity, accepted: route.accepted, to: route.to, sourceIp: from.ip },
      authority: formatHostPort(route.authority),
      headers: this.#headers.of(source, from, route.service?.hostname),
      socket,
      cancel,
    });
    return { stream };
  }

  async #relay(
    client: OutboundClient,
    { stream, local }: Upstream,
    route: Route | undefined,
    result: ConnectionResult,
  ): Promise<void> {
    const { conn, from, to } = client;
    const { cut } = this.#pod.drain;
    using scope = local ? new CancelScope(cut, local.cancel) : new CancelScope(cut);
    using _local = local;
    using _tracked = this.#context.tracker.add({
      pod: this.#pod.uid,
      direction: 'outbound',
      source: from,
      originalDestination: formatHostPort(to),
      actualDestination: formatHostPort(route?.to ?? to),
      protocol: route?.kind === 'hbone' && !local ? 'HBONE' : 'TCP',
      cut: (reason) => scope.cancel(reason),
    });
    const results = local ? [result, local.result] : [result];
    let error: MeshError | undefined;
    try {
      await join(conn, stream, results, scope);
    } catch (thrown) {
      error = MeshError.from(thrown);
    }
    for (const each of results) each.end(error);
  }

  #facts({ from, source, to }: OutboundClient, route: Route | undefined): ConnectionFacts {
    const tunnel = route?.kind === 'hbone' ? route : undefined;
    const destination = route === undefined || route.kind === 'passthrough' ? undefined : route.workload;
    const sameNode = tunnel !== undefined && sameNodePod(this.#context, tunnel) !== undefined;
    return {
      reporter: 'source',
      from,
      // Within the node nothing listens on 15008 for it: the application is dialled.
      to: sameNode ? tunnel.authority : (route?.to ?? to),
      hboneAddress: tunnel && !sameNode ? formatHostPort(tunnel.authority) : undefined,
      source: peerOf(source, tunnel ? source.identity : undefined),
      destination: peerOf(destination, tunnel?.workload.identity),
      service: route ? route.service : this.#meant(source, to),
      mutualTls: tunnel !== undefined && !sameNode,
    };
  }

  /** The service that has no way to it. */
  #meant(source: Workload, to: HostPort): Service | undefined {
    const { store, config } = this.#context;
    return store.services.byVip(config.network, to.ip, source.namespace);
  }
}

/** The counter of the endpoint that was chosen among several. */
function loadOf(route: Route): EndpointLoad | undefined {
  return route.kind === 'passthrough' ? undefined : route.load;
}

/** Whether others had better go elsewhere for a while. A waypoint that says 503 may mean the one service that was asked for. */
function isFaultOfEndpoint(route: Route, error: MeshError): boolean {
  return error.retry && !(error.code === 'tunnel_unavailable' && route.kind === 'hbone' && route.via === 'waypoint');
}
