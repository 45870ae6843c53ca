// The life of a request: prepare, authorize, route, forward, record. Each phase either goes on or gives the answer that ends it.
import { MeshError } from '#shared/errors.ts';
import { isHost, isTarget } from '#shared/http1/strictness.ts';
import type { Baggage } from '#shared/hbone/baggage.ts';
import type { Clock } from '#shared/clock.ts';
import type { HttpChain } from '../listener/listener.ts';
import { applyEdits, findRoute, type Route, type RouteTable } from '../route/table.ts';
import { newRecord, type TrafficRecord } from '../telemetry/record.ts';
import { dropForged } from './client-headers.ts';
import { isGrpc, trailersOnly } from './grpc-reply.ts';
import { dropNamed, upgradeOf } from './hop-by-hop.ts';
import type { ServerMessage } from './message.ts';
import { normalizePath } from './path.ts';
import { type ConnectionInfo, Headers } from './request.ts';
import { type LocalReply, reply } from './reply.ts';
import type { Outcome, Router } from './router.ts';

const OK = 200;
const NO_CONTENT = 204;

export interface ExchangeDeps {
  readonly clock: Clock;
  readonly router: Router;
  routes(name: string): RouteTable | undefined;
  /** Our own SPIFFE ID. */
  readonly identity: string;
  requestId(): string;
  /** Called once, when the request is over. */
  record(record: TrafficRecord, chain: HttpChain): void;
}

export interface ExchangeContext {
  readonly chain: HttpChain;
  readonly connection: ConnectionInfo;
  readonly client: Baggage;
}

/** Serves one request; never throws. Nothing on the way waits for a promise: when a connection is at hand, the request leaves in this call. */
export function serveExchange(message: ServerMessage, context: ExchangeContext, deps: ExchangeDeps): void {
  new Exchange(message, context, deps).serve();
}

class Exchange implements Outcome {
  readonly #message: ServerMessage;
  readonly #context: ExchangeContext;
  readonly #deps: ExchangeDeps;
  readonly #started: number;
  readonly #record: TrafficRecord;
  #route: Route | undefined;

  constructor(message: ServerMessage, context: ExchangeContext, deps: ExchangeDeps) {
    this.#message = message;
    this.#context = context;
    this.#deps = deps;
    this.#started = deps.clock.monotonic();
    this.#record = newRecord(context.connection, context.client, message.head, deps.clock.now());
  }

  serve(): void {
    try {
      const early = this.#begin();
      if (early) this.onOutcome(early);
    } catch (error) {
      this.#fault(error);
    }
  }

  /** The request is over: answered, or to be answered with this. */
  onOutcome(local: LocalReply | undefined): void {
    if (!local) return this.#finish();
    try {
      answer(this.#message, local, this.#record, this.#deps.clock, this.#route);
    } catch (error) {
      return this.#fault(error);
    }
    this.#finish();
  }

  /** Up to handing the request over; or the answer that ends it before. */
  #begin(): LocalReply | undefined {
    const { chain } = this.#context;
    const message = this.#message;
    const early = prepare(message, chain, this.#deps) ?? authorize(message, this.#context);
    if (early) return early;
    const route = findRouteOf(message, chain, this.#deps);
    if (!route) return reply.noRoute();
    this.#route = route;
    this.#record.routeName = route.name;
    const local = localAnswer(route, message);
    if (local) return local;
    this.#deps.router.forward(message, route, this.#context, this.#record, this);
    return undefined;
  }

  #fault(error: unknown): void {
    this.#record.flag = '-';
    this.#record.details = `internal_error{${MeshError.from(error).message}}`;
    this.#message.reset();
    this.#finish();
  }

  #finish(): void {
    this.#record.duration = this.#deps.clock.monotonic() - this.#started;
    this.#deps.record(this.#record, this.#context.chain);
  }
}

/** Makes the head what policy and routes may rely on. */
function prepare(message: ServerMessage, chain: HttpChain, deps: ExchangeDeps): LocalReply | undefined {
  const { head } = message;
  // HTTP/2 allows octets in these that a request line cannot hold; of HTTP/1.1 the scanner has checked them.
  if (head.protocol === 'HTTP/2' && (!isTarget(head.method, head.path) || !isHost(head.authority))) return reply.badRequest();
  // A fragment belongs into no request: policy would see the path before it, the backend perhaps all.
  if (head.path.includes('#')) return reply.badPath();
  if (chain.normalizePath) {
    const path = normalizePath(head.path);
    if (path === undefined) return reply.badPath();
    head.path = path;
  }
  if (!dropNamed(head.headers)) return reply.badRequest();
  dropForged(head.headers);
  const upgrade = upgradeOf(head.headers);
  if (upgrade !== undefined && upgrade !== 'h2c' && !(upgrade === 'websocket' && chain.websocket && message.upgrade))
    return reply.upgradeRefused();
  if (!head.headers.has('x-forwarded-proto')) head.headers.append('x-forwarded-proto', head.scheme);
  if (!head.headers.has('x-request-id')) head.headers.append('x-request-id', deps.requestId());
  return undefined;
}

function authorize(message: ServerMessage, { chain, connection }: ExchangeContext): LocalReply | undefined {
  if (chain.rbac.length === 0) return undefined;
  const subject = { connection, head: message.head };
  for (const check of chain.rbac) {
    const verdict = check(subject);
    if (!verdict.allowed) return reply.denied(verdict.policy);
  }
  return undefined;
}

function findRouteOf(message: ServerMessage, chain: HttpChain, deps: ExchangeDeps): Route | undefined {
  const table = deps.routes(chain.routes);
  return table && findRoute(table, message.head);
}

function localAnswer({ action }: Route, { head }: ServerMessage): LocalReply | undefined {
  if (action.kind === 'redirect') return reply.redirect(action.status, action.location(head));
  return action.kind === 'direct' ? reply.direct(action.status, action.body) : undefined;
}

/** Sends an answer of our own. What the client still sends of its body is read and dropped by the codec. */
function answer(message: ServerMessage, local: LocalReply, record: TrafficRecord, clock: Clock, route?: Route): void {
  const grpc = isGrpc(message.head.headers);
  const status = grpc ? OK : local.status;
  // RFC 9110, sections 8.6 and 15.3.5: 204 has neither.
  const empty = grpc || status === NO_CONTENT;
  const body = Buffer.from(empty ? '' : local.body);
  const headers = new Headers(empty ? [] : [['content-length', String(body.length)]]);
  if (body.length > 0) headers.append('content-type', 'text/plain');
  for (const [name, value] of local.headers ?? []) headers.append(name, value);
  headers.append('date', new Date(clock.now()).toUTCString());
  if (route) applyEdits(headers, route.edits.response);
  if (grpc) {
    for (const [name, value] of trailersOnly(local)) headers.set(name, value);
    record.grpcStatus = headers.get('grpc-status');
  }
  record.status = status;
  record.flag = local.flag;
  record.details = local.details;
  record.sent = message.head.method === 'HEAD' ? 0 : body.length;
  const bare = body.length === 0 || message.head.method === 'HEAD';
  message.respond({ status, headers }, bare);
  if (!bare) {
    message.write(body);
    message.end();
  }
  message.discard();
}
