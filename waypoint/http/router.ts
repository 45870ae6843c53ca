// The last filter: picks the backend, gets a connection to it and joins request and response, with back-pressure both ways.
import { MeshError } from '#shared/errors.ts';
import type { Clock } from '#shared/clock.ts';
import { relay } from '#shared/hbone/relay.ts';
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import { type Cluster, describeAddress, type Endpoint } from '../cluster/cluster.ts';
import { applyEdits, type ClusterShare, pickShare, type Route, type RouteAction } from '../route/table.ts';
import type { TrafficRecord } from '../telemetry/record.ts';
import type { ExchangeContext } from './exchange.ts';
import { stripHopByHop, upgradeOf } from './hop-by-hop.ts';
import type { BodyHandler, ClientConnection, ClientMessage, ResponseEvents, ServerMessage } from './message.ts';
import { Headers, pathOnly, type RequestHead, type ResponseHead } from './request.ts';
import { connectReply, type LocalReply, reply } from './reply.ts';

/** A cluster with its endpoints. */
export interface LiveCluster {
  readonly config: Cluster;
  pick(): Endpoint | undefined;
}

export interface RouterDeps {
  readonly clock: Clock;
  readonly random: () => number;
  cluster(name: string): LiveCluster | undefined;
  /** A connection for one request; rejects with a MeshError. */
  connect(cluster: Cluster, endpoint: Endpoint, context: ExchangeContext): Promise<ClientConnection>;
}

type Forward = Extract<RouteAction, { kind: 'forward' }>;

export class Router {
  readonly #deps: RouterDeps;

  constructor(deps: RouterDeps) {
    this.#deps = deps;
  }

  /** Resolves when the response is over; with an answer for the caller to give when there is none. */
  async forward(
    message: ServerMessage,
    route: Route,
    context: ExchangeContext,
    record: TrafficRecord,
  ): Promise<LocalReply | undefined> {
    const action = route.action as Forward;
    const share = pickShare(action.shares, action.totalWeight, this.#deps.random());
    const cluster = share && this.#deps.cluster(share.cluster);
    record.cluster = share?.cluster ?? '-';
    if (!share || !cluster) return reply.noCluster(action.clusterNotFound);
    record.service = cluster.config.service;
    const endpoint = cluster.pick();
    if (!endpoint) return reply.noEndpoint();
    record.upstreamHost = describeAddress(endpoint.address);
    record.workload = endpoint.workload;
    record.upstreamIdentity = endpoint.identity;
    const head = requestHead(message, action, share, route, record);
    endpoint.active += 1;
    try {
      const connection = await this.#deps.connect(cluster.config, endpoint, context);
      return await new Transfer(message, connection, head, { action, share, route, record, clock: this.#deps.clock }).run();
    } catch (error) {
      const fault = MeshError.from(error, 'connect_failed');
      record.transportFailure = fault.message;
      return connectReply(fault);
    } finally {
      endpoint.active -= 1;
    }
  }
}

/** The head as the backend gets it. */
function requestHead(
  message: ServerMessage,
  action: Forward,
  share: ClusterShare,
  route: Route,
  record: TrafficRecord,
): RequestHead {
  const { head } = message;
  const upgrade = upgradeOf(head.headers);
  stripHopByHop(head.headers);
  if (head.headers.get('expect')?.toLowerCase() === '100-continue') {
    head.headers.remove('expect');
    message.inform({ status: 100, headers: new Headers() });
  }
  applyEdits(head.headers, share.edits.request);
  applyEdits(head.headers, route.edits.request);
  if (action.rewritePath) {
    record.originalPath = head.path;
    head.headers.set('x-envoy-original-path', head.path);
    head.path = action.rewritePath(head.path);
    if (!pathOnly(head.path).startsWith('/')) head.path = `/${head.path}`;
  }
  if (action.rewriteHost !== undefined) head.authority = action.rewriteHost;
  if (upgrade === 'websocket' && message.upgrade) {
    head.headers.append('connection', 'upgrade');
    head.headers.append('upgrade', 'websocket');
  }
  return head;
}

interface TransferOptions {
  readonly action: Forward;
  readonly share: ClusterShare;
  readonly route: Route;
  readonly record: TrafficRecord;
  readonly clock: Clock;
}

/** One request on one connection, until both directions are over. */
class Transfer implements ResponseEvents {
  readonly #message: ServerMessage;
  readonly #connection: ClientConnection;
  readonly #head: RequestHead;
  readonly #options: TransferOptions;
  readonly #done = Promise.withResolvers<LocalReply | undefined>();
  #client!: ClientMessage;
  #responded = false;
  #requestEnded = false;
  #finished = false;
  #started = 0;

  constructor(message: ServerMessage, connection: ClientConnection, head: RequestHead, options: TransferOptions) {
    this.#message = message;
    this.#connection = connection;
    this.#head = head;
    this.#options = options;
  }

  async run(): Promise<LocalReply | undefined> {
    const { action, clock } = this.#options;
    this.#started = clock.monotonic();
    this.#requestEnded = this.#message.ended;
    try {
      this.#client = this.#connection.request(this.#head, this.#message.ended, this);
    } catch (error) {
      // Nothing was sent, but what the connection thinks of it is not known.
      this.#connection.close();
      throw error;
    }
    this.#client.start(this.#responseHandler());
    this.#message.start(this.#requestHandler());
    const timer = action.timeout > 0 ? clock.after(action.timeout, () => this.#onTimeout()) : undefined;
    try {
      return await this.#done.promise;
    } finally {
      timer?.cancel();
    }
  }

  onInformational(head: ResponseHead): void {
    if (head.status !== 100) this.#message.inform(head);
  }

  onResponse(head: ResponseHead, ended: boolean): void {
    if (this.#finished) return;
    const { record } = this.#options;
    this.#responded = true;
    record.serviceTime = this.#options.clock.monotonic() - this.#started;
    record.status = head.status;
    record.details = 'via_upstream';
    record.grpcStatus = head.headers.get('grpc-status');
    stripHopByHop(head.headers);
    this.#editResponse(head);
    head.headers.set('x-envoy-upstream-service-time', String(Math.round(record.serviceTime)));
    this.#message.respond(head, ended);
    if (ended) this.#finish(undefined);
  }

  onUpgrade(head: ResponseHead, upstream: ByteStream): void {
    const { record } = this.#options;
    this.#responded = true;
    record.serviceTime = this.#options.clock.monotonic() - this.#started;
    record.status = head.status;
    record.details = 'via_upstream';
    this.#editResponse(head);
    const downstream = this.#message.upgrade?.(head);
    if (!downstream) return upstream.reset();
    const joined = relay(downstream, upstream);
    void joined.done.then(({ sent, received }) => {
      record.received += sent;
      record.sent += received;
      this.#finish(undefined);
    });
  }

  #editResponse(head: ResponseHead): void {
    const { share, route } = this.#options;
    applyEdits(head.headers, share.edits.response);
    applyEdits(head.headers, route.edits.response);
  }

  /** From the client to the backend. */
  #requestHandler(): BodyHandler {
    return {
      onData: (chunk) => {
        this.#options.record.received += chunk.length;
        if (!this.#client.write(chunk)) this.#message.pause();
      },
      onTrailers: (trailers) => {
        this.#requestEnded = true;
        this.#client.end(trailers);
      },
      onEnd: () => {
        if (this.#requestEnded) return;
        this.#requestEnded = true;
        this.#client.end();
      },
      onDrain: () => this.#client.resume(),
      onClose: (reason) => this.#onClientGone(reason),
    };
  }

  /** From the backend to the client. */
  #responseHandler(): BodyHandler {
    let ended = false;
    return {
      onData: (chunk) => {
        this.#options.record.sent += chunk.length;
        if (!this.#message.write(chunk)) this.#client.pause();
      },
      onTrailers: (trailers) => {
        ended = true;
        this.#options.record.grpcStatus =
          trailers.find(([name]) => name === 'grpc-status')?.[1] ?? this.#options.record.grpcStatus;
        this.#message.end(trailers);
        this.#finish(undefined);
      },
      onEnd: () => {
        if (ended || this.#finished) return;
        ended = true;
        this.#message.end();
        this.#finish(undefined);
      },
      onDrain: () => this.#message.resume(),
      onClose: (reason) => this.#onBackendGone(reason),
    };
  }

  #onClientGone(reason: CloseReason): void {
    if (this.#finished || reason.kind === 'ended') return;
    const { record } = this.#options;
    record.flag = 'DC';
    record.details = 'downstream_remote_disconnect';
    this.#client.reset();
    this.#finish(undefined);
  }

  #onBackendGone(reason: CloseReason): void {
    if (this.#finished) return;
    const local = goneReply(reason);
    const { record } = this.#options;
    if (reason.kind === 'error') record.transportFailure = reason.error.message;
    if (!this.#responded) return this.#finish(local);
    record.flag = local.flag;
    this.#message.reset();
    this.#finish(undefined);
  }

  #onTimeout(): void {
    if (this.#finished) return;
    this.#client.reset();
    if (!this.#responded) return this.#finish(reply.timeout());
    this.#options.record.flag = 'UT';
    this.#message.reset();
    this.#finish(undefined);
  }

  #finish(local: LocalReply | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#done.resolve(local);
  }
}

function goneReply(reason: CloseReason): LocalReply {
  if (reason.kind === 'error' && reason.error.code === 'protocol_error') return reply.upstreamProtocol();
  if (reason.kind === 'reset' && reason.remote && reason.code !== undefined) return reply.upstreamReset();
  return reply.upstreamClosed();
}
