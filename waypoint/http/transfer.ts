// One request on one connection to a backend: joins request and response, with back-pressure both ways, until both are over.
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { relay } from '#shared/hbone/relay.ts';
import { Http1Fault } from '#shared/http1/strictness.ts';
import { Http2Code } from '#shared/http2/frames.ts';
import { header } from '#shared/http2/headers.ts';
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import type { Endpoint } from '../cluster/cluster.ts';
import { applyEdits, type ClusterShare, type Route, type RouteAction } from '../route/table.ts';
import { CODEC_ERROR, type TrafficRecord } from '../telemetry/record.ts';
import { endToEnd, stripHopByHop } from './hop-by-hop.ts';
import type { BodyHandler, ClientConnection, ClientMessage, ResponseEvents, ServerMessage } from './message.ts';
import { connectReply, type LocalReply, reply } from './reply.ts';
import type { HeaderPair, RequestHead, ResponseHead } from './request.ts';

export type Forward = Extract<RouteAction, { kind: 'forward' }>;

/** Told once how a request ended. */
export interface Outcome {
  /** Undefined: the client has its answer, or is gone. Else the answer to give. */
  onOutcome(local: LocalReply | undefined): void;
}

interface TransferOptions {
  readonly action: Forward;
  readonly share: ClusterShare;
  readonly route: Route;
  readonly record: TrafficRecord;
  readonly endpoint: Endpoint;
  readonly clock: Clock;
}

/** 1xx heads of one answer, and the octets of all of them: they go on whether the client reads or not, and wait in our memory. */
const MAX_INTERIM = 100;
/** Room for the largest head that is taken (shared/http1/strictness.ts). */
const MAX_INTERIM_OCTETS = 65_536;

/** One request on one connection, until both directions are over. As a handler it is the backend's side. */
export class Transfer implements ResponseEvents, BodyHandler {
  readonly #message: ServerMessage;
  readonly #head: RequestHead;
  readonly #options: TransferOptions;
  readonly #outcome: Outcome;
  readonly #body: RequestBody;
  #client: ClientMessage | undefined;
  #responded = false;
  #interim = 0;
  #interimOctets = 0;
  /** All of the answer is with the client's connection. */
  #answered = false;
  #finished = false;
  /** When the request was complete. */
  #complete: number | undefined;
  #timer: Timer | undefined;

  constructor(message: ServerMessage, head: RequestHead, options: TransferOptions, outcome: Outcome) {
    this.#message = message;
    this.#head = head;
    this.#options = options;
    this.#outcome = outcome;
    options.endpoint.active += 1;
    this.#body = new RequestBody(message, options.record, this);
    if (message.ended) this.requestComplete();
  }

  /** A connection is on its way: the client's body, its end or its leaving may come first. */
  wait(): void {
    this.#body.wait();
  }

  start(connection: ClientConnection): void {
    // Too late, or nobody waits any more.
    if (this.#finished) return connection.returnUnused();
    let client: ClientMessage;
    try {
      client = connection.request(this.#head, this.#message.ended, this);
    } catch (error) {
      return this.fail(error);
    }
    this.#client = client;
    client.start(this);
    this.#body.sendTo(client);
  }

  /** No connection could be had, or it did not take the request. */
  fail(error: unknown): void {
    if (this.#finished) return;
    const fault = MeshError.from(error, 'connect_failed');
    this.#options.record.transportFailure = fault.message;
    this.#finish(connectReply(fault));
  }

  /** As in Envoy the route's time is that from the end of the request to the end of the answer: connecting counts, an upload does not. */
  requestComplete(): void {
    const { action, clock } = this.#options;
    this.#complete = clock.monotonic();
    if (action.timeout > 0 && !this.#finished) this.#timer = clock.after(action.timeout, () => this.#onTimeout());
  }

  onInformational(head: ResponseHead): void {
    if (head.status === 100 || this.#finished) return;
    this.#interim += 1;
    this.#interimOctets += octetsOf(head);
    if (this.#interim > MAX_INTERIM || this.#interimOctets > MAX_INTERIM_OCTETS) {
      this.#client?.reset();
      return this.#finish(reply.upstreamProtocol());
    }
    stripHopByHop(head.headers);
    head.headers.remove('content-length');
    this.#message.inform(head);
  }

  onResponse(head: ResponseHead, ended: boolean): void {
    if (this.#finished) return;
    const { record } = this.#options;
    this.#responded = true;
    record.serviceTime = this.#complete === undefined ? undefined : this.#options.clock.monotonic() - this.#complete;
    record.status = head.status;
    record.details = 'via_upstream';
    record.grpcStatus = head.headers.get('grpc-status');
    stripHopByHop(head.headers);
    // Of no body there is no length to tell (RFC 9110, section 8.6).
    if (head.status === 204) head.headers.remove('content-length');
    this.#editResponse(head);
    if (record.serviceTime !== undefined)
      head.headers.set('x-envoy-upstream-service-time', String(Math.round(record.serviceTime)));
    this.#answered = ended;
    this.#message.respond(head, ended);
    if (ended) this.#finish(undefined);
  }

  onUpgrade(head: ResponseHead, upstream: ByteStream): void {
    if (this.#finished) return upstream.reset();
    const { record } = this.#options;
    this.#responded = true;
    // The tunnel is no answer that must be over in time.
    this.#timer?.cancel();
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

  // --- from the backend to the client ---

  onData(chunk: Uint8Array): void {
    this.#options.record.sent += chunk.length;
    if (!this.#message.write(chunk)) this.#client?.pause();
  }

  onTrailers(trailers: readonly HeaderPair[]): void {
    if (this.#finished) return;
    const { record } = this.#options;
    record.grpcStatus = header(trailers, 'grpc-status') ?? record.grpcStatus;
    this.#answered = true;
    this.#message.end(endToEnd(trailers));
    this.#finish(undefined);
  }

  onEnd(): void {
    if (this.#finished) return;
    this.#answered = true;
    this.#message.end();
    this.#finish(undefined);
  }

  onDrain(): void {
    this.#message.resume();
  }

  onClose(reason: CloseReason): void {
    if (this.#finished) return;
    const local = goneReply(reason);
    const { record } = this.#options;
    if (reason.kind === 'error') record.transportFailure = reason.error.message;
    if (!this.#responded) return this.#finish(local);
    record.flag = local.flag;
    this.#message.reset();
    this.#finish(undefined);
  }

  onClientGone(reason: CloseReason): void {
    if (reason.kind === 'ended' || this.#answered || this.#finished) return;
    this.#client?.reset();
    const { record } = this.#options;
    // The client's connection itself answers what is wrong with a body.
    const refused = reason.kind === 'error' && reason.error instanceof Http1Fault && !this.#responded;
    if (refused) record.status = reason.error.status;
    record.flag = refused ? CODEC_ERROR.flag : 'DC';
    record.details = refused ? CODEC_ERROR.details : 'downstream_remote_disconnect';
    this.#finish(undefined);
  }

  #onTimeout(): void {
    if (this.#finished) return;
    this.#client?.reset();
    if (!this.#responded) return this.#finish(reply.timeout());
    this.#options.record.flag = 'UT';
    this.#message.reset();
    this.#finish(undefined);
  }

  #finish(local: LocalReply | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#timer?.cancel();
    // The rest of the request is of no use, and neither end may wait for the other to take it: Envoy lets go of the backend, too.
    if (!this.#body.stop()) this.#client?.reset();
    this.#message.resume();
    this.#options.endpoint.active -= 1;
    this.#outcome.onOutcome(local);
  }
}

/** Octets of a request that are taken in before there is a connection for it; more of it waits at the client. */
const MAX_EARLY = 65_536;

/** What came of a body before there was a connection. */
interface EarlyBody {
  readonly chunks: Uint8Array[];
  octets: number;
  trailers: readonly HeaderPair[] | undefined;
}

/** The other way: what the client sends goes to the backend. */
class RequestBody implements BodyHandler {
  readonly #message: ServerMessage;
  readonly #record: TrafficRecord;
  readonly #transfer: Transfer;
  #client: ClientMessage | undefined;
  #early: EarlyBody | undefined;
  #ended: boolean;
  #stopped = false;

  constructor(message: ServerMessage, record: TrafficRecord, transfer: Transfer) {
    this.#message = message;
    this.#record = record;
    this.#transfer = transfer;
    this.#ended = message.ended;
  }

  /** Before there is a connection. */
  wait(): void {
    this.#early = { chunks: [], octets: 0, trailers: undefined };
    this.#message.start(this);
  }

  sendTo(client: ClientMessage): void {
    this.#client = client;
    const early = this.#early;
    if (!early) return this.#message.start(this);
    this.#early = undefined;
    let more = true;
    for (const chunk of early.chunks) more = client.write(chunk);
    if (this.#ended && !this.#message.ended) client.end(early.trailers);
    else if (more) this.#message.resume();
  }

  /** The answer is over: what the client still sends is dropped. False: the request was not complete. */
  stop(): boolean {
    this.#stopped = true;
    this.#early = undefined;
    return this.#ended;
  }

  onData(chunk: Uint8Array): void {
    if (this.#stopped) return;
    this.#record.received += chunk.length;
    const more = this.#client ? this.#client.write(chunk) : this.#hold(chunk);
    if (!more) this.#message.pause();
  }

  onTrailers(trailers: readonly HeaderPair[]): void {
    this.#end(endToEnd(trailers));
  }

  onEnd(): void {
    this.#end(undefined);
  }

  onDrain(): void {
    this.#client?.resume();
  }

  onClose(reason: CloseReason): void {
    this.#transfer.onClientGone(reason);
  }

  #end(trailers: readonly HeaderPair[] | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#stopped) return;
    if (this.#early) this.#early.trailers = trailers;
    this.#client?.end(trailers);
    this.#transfer.requestComplete();
  }

  #hold(chunk: Uint8Array): boolean {
    const early = this.#early;
    if (!early) return true;
    early.chunks.push(Uint8Array.from(chunk));
    early.octets += chunk.length;
    return early.octets < MAX_EARLY;
  }
}

/** Of the fields as HTTP/1.1 writes them. */
function octetsOf({ headers }: ResponseHead): number {
  let octets = 0;
  for (const [name, value] of headers.pairs) octets += name.length + value.length + 4;
  return octets;
}

function goneReply(reason: CloseReason): LocalReply {
  if (reason.kind === 'error' && reason.error.code === 'protocol_error') return reply.upstreamProtocol();
  if (reason.kind !== 'reset' || reason.code === undefined) return reply.upstreamClosed();
  if (reason.remote) return reply.upstreamReset();
  // Our HTTP/2 ends a stream by itself for a fault of the peer only; else somebody has closed the connection.
  if (reason.code !== Http2Code.cancel) return reply.upstreamProtocol();
  return reply.upstreamClosed();
}
