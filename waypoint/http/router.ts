// The last filter: picks the backend, makes the head that it gets, and hands request and connection to a transfer.
import type { HostPort } from '#shared/address.ts';
import type { Clock } from '#shared/clock.ts';
import type { Specimens } from '#shared/lifecycle/specimens.ts';
import type { Cluster, Endpoint } from '../cluster/cluster.ts';
import { applyEdits, type ClusterShare, pickShare, type Route } from '../route/table.ts';
import type { TrafficRecord } from '../telemetry/record.ts';
import type { ExchangeContext } from './exchange.ts';
import { stripHopByHop, upgradeOf } from './hop-by-hop.ts';
import type { ClientConnection, ServerMessage } from './message.ts';
import { reply } from './reply.ts';
import { Headers, pathOnly, type RequestHead } from './request.ts';
import { type Forward, type Outcome, Transfer } from './transfer.ts';

export type { Outcome };

/** A cluster with its endpoints. */
export interface LiveCluster {
  readonly config: Cluster;
  pick(): Endpoint | undefined;
  /** Connections of one key may serve each other's requests. */
  connectionKey(endpoint: Endpoint, destination: HostPort): string;
}

export interface RouterDeps {
  readonly clock: Clock;
  readonly random: () => number;
  /** Of requests. */
  readonly specimens: Specimens;
  cluster(name: string): LiveCluster | undefined;
  /** A connection for one request, when one is at hand; else a promise that rejects with a MeshError. */
  connect(cluster: LiveCluster, endpoint: Endpoint, context: ExchangeContext): ClientConnection | Promise<ClientConnection>;
}

export class Router {
  readonly #deps: RouterDeps;

  constructor(deps: RouterDeps) {
    this.#deps = deps;
  }

  /** Sends the request on; `outcome` hears of the end of it, perhaps within this call. */
  forward(message: ServerMessage, route: Route, context: ExchangeContext, record: TrafficRecord, outcome: Outcome): void {
    const action = route.action as Forward;
    const { shares } = action;
    const share = shares.length === 1 ? shares[0] : pickShare(shares, action.totalWeight, this.#deps.random());
    const cluster = share && this.#deps.cluster(share.cluster);
    record.cluster = share?.cluster ?? '-';
    if (!share || !cluster) return outcome.onOutcome(reply.noCluster(action.clusterNotFound));
    record.service = cluster.config.service;
    const endpoint = cluster.pick();
    if (!endpoint) return outcome.onOutcome(reply.noEndpoint());
    record.upstreamHost = endpoint.label;
    record.workload = endpoint.workload;
    record.upstreamIdentity = endpoint.identity;
    const upgrades = !cluster.config.http2 && message.upgrade && upgradeOf(message.head.headers) === 'websocket';
    const head = requestHead(message, action, share, route, record);
    if (upgrades) {
      head.headers.append('connection', 'upgrade');
      head.headers.append('upgrade', 'websocket');
    }
    const options = { action, share, route, record, endpoint, clock: this.#deps.clock };
    const transfer = new Transfer(message, head, options, outcome);
    const { specimens } = this.#deps;
    specimens.keep(message.head.protocol, message);
    specimens.keep(cluster.config.http2 ? 'to HTTP/2' : 'to HTTP/1.1', transfer);
    const connection = this.#deps.connect(cluster, endpoint, context);
    if (!(connection instanceof Promise)) return transfer.start(connection);
    transfer.wait();
    connection.then(
      (opened) => transfer.start(opened),
      (error: unknown) => transfer.fail(error),
    );
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
  return head;
}
