// The delta ADS client of ztunnel and waypoint: several types on one stream, kept for the life of the process, state served while
// the control plane is away (facts: ztunnel 8).
import { create, toBinary } from '@bufbuild/protobuf';
import { connectivityState, status } from '@grpc/grpc-js';
import type { Client, ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { Backoff } from '../backoff.ts';
import type { BackoffOptions } from '../backoff.ts';
import { systemClock } from '../clock.ts';
import type { Clock, Timer } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { NodeSchema } from '../gen/envoy/config/core/v3/base_pb.ts';
import type { Node } from '../gen/envoy/config/core/v3/base_pb.ts';
import { DeltaDiscoveryRequestSchema } from '../gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { DeltaDiscoveryRequest } from '../gen/envoy/service/discovery/v3/discovery_pb.ts';
import { StatusSchema } from '../gen/google/rpc/status_pb.ts';
import { collectGarbage } from '../lifecycle/start-memory.ts';
import { callMetadata, dial, hangUp } from '../grpc/dial.ts';
import type { GrpcEndpoint } from '../grpc/dial.ts';
import { releaseMessagePieces } from '../grpc/message-pieces.ts';
import type { Log } from '../telemetry/log.ts';
import type { Family, Metrics } from '../telemetry/metrics.ts';
import type { XdsNode } from './node.ts';
import type { Rejection, ResourceType } from './resource-type.ts';
import { readDeltaResponse } from './response-reader.ts';
import { TypeState } from './subscription.ts';
import type { Subscription, SubscriptionMode } from './subscription.ts';

export interface DeltaClientOptions {
  endpoint: GrpcEndpoint;
  node: XdsNode;
  log: Log;
  metrics: Metrics;
  clock?: Clock;
  /** Between connections; default 100 ms to 15 s, plus or minus half, so that a thousand nodes do not come back at once. */
  backoff?: BackoffOptions;
}

const METHOD = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const MAX_MESSAGE = 200 * 1024 * 1024;
/** A full state arrives in few round trips. */
const WINDOW = 4 * 1024 * 1024;
const BACKOFF: BackoffOptions = { initial: 100, max: 15_000, jitter: 0.5 };
/** For TCP, TLS and HTTP/2 together, ms: grpc-js has no limit of its own, and pings only what is a connection. */
const CONNECT_TIMEOUT = 20_000;
/** A NACK names what it can; a server keeps this text per proxy. */
const MAX_ERROR_DETAIL = 16 * 1024;
/** Bytes of a response whose pieces are worth a collection, of some 20 ms. */
const LARGE = 8 << 20;
/** Rejected resources of one response that get a log line each. */
const MAX_LOGGED = 20;

type Termination = 'ConnectionError' | 'Error' | 'Reconnect' | 'Complete';
interface StreamEnd {
  why: Termination;
  error?: MeshError;
  /** A response had come: the next attempt starts with a short delay again. */
  healthy: boolean;
}

/** Add the types in the order in which they are to be asked for, then start. */
export class DeltaClient implements Disposable {
  #options: DeltaClientOptions;
  #log: Log;
  #clock: Clock;
  #node: Node;
  #types = new Map<string, TypeState>();
  #stream: ClientDuplexStream<DeltaDiscoveryRequest, Buffer> | undefined;
  #closing = new AbortController();
  #flushing = false;
  #terminations: Family<'reason'>;
  #messages: Family<'url'>;
  #bytes: Family<'url'>;

  constructor(options: DeltaClientOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock ?? systemClock;
    this.#node = create(NodeSchema, { id: options.node.id, metadata: options.node.metadata });
    const { metrics } = options;
    this.#terminations = metrics.counter('istio_xds_connection_terminations_total', 'Ends of xDS connections', ['reason']);
    this.#messages = metrics.counter('istio_xds_message_total', 'xDS responses received', ['url']);
    this.#bytes = metrics.counter('istio_xds_message_bytes_total', 'Bytes of xDS responses received', ['url']);
  }

  /** Everything the server has of a type. */
  watchAll<T>(type: ResourceType<T>): Subscription {
    return this.#watch(type, 'wildcard', []);
  }

  /** Named resources; the names may change at any time. Nothing is asked while there is none. */
  watchNamed<T>(
    type: ResourceType<T>,
    names: Iterable<string> = [],
    mode: Exclude<SubscriptionMode, 'wildcard'> = 'named',
  ): Subscription {
    return this.#watch(type, mode, names);
  }

  /** True while a stream is open. */
  get connected(): boolean {
    return this.#stream !== undefined;
  }

  /** Connects and stays connected until close(). */
  start(): void {
    releaseMessagePieces();
    void this.#run();
  }

  close(): void {
    this.#closing.abort();
    this.#stream?.cancel();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #watch<T>(type: ResourceType<T>, mode: SubscriptionMode, names: Iterable<string>): Subscription {
    if (this.#types.has(type.typeUrl)) throw new MeshError('internal', `${type.typeUrl} is subscribed to twice`);
    const state = new TypeState<T>(type, mode, names, () => this.#flushSoon());
    this.#types.set(type.typeUrl, state);
    this.#flushSoon();
    return state;
  }

  async #run(): Promise<void> {
    const backoff = new Backoff({ ...BACKOFF, ...this.#options.backoff });
    while (!this.#closing.signal.aborted) {
      const end = await this.#connectOnce();
      if (this.#closing.signal.aborted) return;
      this.#terminations.add(1, end.why);
      if (end.healthy) backoff.reset();
      const delay = backoff.next();
      const fields = { address: this.#options.endpoint.address, reason: end.why, error: end.error, retry_ms: Math.round(delay) };
      if (end.healthy) this.#log.info('xDS stream ended', fields);
      else this.#log.warn('xDS connection failed', fields);
      await this.#sleep(delay);
    }
  }

  async #connectOnce(): Promise<StreamEnd> {
    const { endpoint } = this.#options;
    let client: Client | undefined;
    let timer: Timer | undefined;
    try {
      client = await dial(endpoint, { 'grpc.max_receive_message_length': MAX_MESSAGE, 'grpc-node.flow_control_window': WINDOW });
      const metadata = await callMetadata(endpoint);
      if (this.#closing.signal.aborted) return { why: 'Complete', healthy: false };
      const stream = client.makeBidiStreamRequest<DeltaDiscoveryRequest, Buffer>(METHOD, encode, (bytes) => bytes, metadata);
      const channel = client.getChannel();
      const late = Promise.withResolvers<StreamEnd>();
      timer = this.#clock.after(CONNECT_TIMEOUT, () => {
        if (channel.getConnectivityState(false) !== connectivityState.CONNECTING) return;
        late.resolve({ why: 'ConnectionError', error: lateConnection(endpoint), healthy: false });
        stream.cancel();
      });
      return await Promise.race([late.promise, this.#serve(stream)]);
    } catch (error) {
      return { why: 'ConnectionError', error: MeshError.from(error), healthy: false };
    } finally {
      timer?.cancel();
      this.#stream = undefined;
      if (client) hangUp(client);
    }
  }

  /** One stream from its initial requests to its end. */
  #serve(stream: ClientDuplexStream<DeltaDiscoveryRequest, Buffer>): Promise<StreamEnd> {
    return new Promise((resolve) => {
      let healthy = false;
      stream.on('data', (bytes: Buffer) => {
        try {
          this.#respond(stream, bytes);
          if (!healthy) this.#log.info('xDS stream is up', { address: this.#options.endpoint.address });
          healthy = true;
        } catch (error) {
          resolve({ why: 'Error', error: MeshError.from(error), healthy: false });
          stream.cancel();
        }
      });
      stream.on('error', (error: ServiceError) => {
        resolve({ why: terminationOf(error, healthy), error: MeshError.from(error, 'connect_failed'), healthy });
      });
      stream.on('end', () => resolve({ why: 'Complete', healthy }));
      for (const state of this.#types.values()) state.restart();
      this.#stream = stream;
      this.#flush();
    });
  }

  /** Decode, apply, answer. Throws when the response itself cannot be read: the stream is then of no use. */
  #respond(stream: ClientDuplexStream<DeltaDiscoveryRequest, Buffer>, bytes: Buffer): void {
    // What a large response came in, piece by piece, is as much again, and garbage by now.
    if (bytes.length > LARGE) collectGarbage();
    const { typeUrl, nonce, resources, removedResources } = readDeltaResponse(bytes);
    const state = this.#types.get(typeUrl);
    if (!state) {
      this.#log.warn('xDS response of a type that was not asked for', { type: typeUrl });
      return void stream.write(answer(typeUrl, nonce, `${typeUrl} was not subscribed to`));
    }
    this.#messages.add(1, typeUrl);
    this.#bytes.add(bytes.length, typeUrl);
    const { accepted, rejections } = state.accept(resources, removedResources);
    this.#log.debug('xDS response', { type: typeUrl, resources: accepted, removed: removedResources.length });
    for (const { name, reason } of rejections.slice(0, MAX_LOGGED))
      this.#log.error('resource rejected', { type: typeUrl, name, reason });
    if (rejections.length > MAX_LOGGED)
      this.#log.error('more resources rejected', { type: typeUrl, count: rejections.length - MAX_LOGGED });
    stream.write(answer(typeUrl, nonce, describe(rejections)));
  }

  /** Many changes of names in one turn make one request. */
  #flushSoon(): void {
    if (this.#flushing || !this.#stream) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    for (const state of this.#types.values()) {
      for (let { fresh } = state; this.#stream; fresh = false) {
        const request = state.nextRequest();
        if (!request) break;
        if (fresh) request.node = this.#node;
        this.#stream.write(request);
      }
    }
  }

  /** Ends early when the client is closed. */
  async #sleep(ms: number): Promise<void> {
    const { signal } = this.#closing;
    const woken = Promise.withResolvers<void>();
    const timer = this.#clock.after(ms, woken.resolve);
    const wake = (): void => woken.resolve();
    signal.addEventListener('abort', wake);
    await woken.promise;
    signal.removeEventListener('abort', wake);
    timer.cancel();
  }
}

function encode(request: DeltaDiscoveryRequest): Buffer {
  return Buffer.from(toBinary(DeltaDiscoveryRequestSchema, request));
}

/** An ACK, or with `fault` a NACK. */
function answer(typeUrl: string, responseNonce: string, fault: string): DeltaDiscoveryRequest {
  const request = create(DeltaDiscoveryRequestSchema, { typeUrl, responseNonce });
  if (fault !== '') request.errorDetail = create(StatusSchema, { code: status.INVALID_ARGUMENT, message: fault });
  return request;
}

function lateConnection({ address }: GrpcEndpoint): MeshError {
  return new MeshError('connect_timeout', `${address} did not become a connection within ${CONNECT_TIMEOUT} ms`);
}

function describe(rejections: readonly Rejection[]): string {
  const text = rejections.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
  return text.length > MAX_ERROR_DETAIL ? `${text.slice(0, MAX_ERROR_DETAIL)}…` : text;
}

/** Ends that are part of a server's life (drain, maximum age) are `Reconnect`. */
function terminationOf(error: ServiceError, healthy: boolean): Termination {
  if (!healthy && error.code === status.UNAVAILABLE) return 'ConnectionError';
  const usual: readonly status[] = [status.UNKNOWN, status.CANCELLED, status.DEADLINE_EXCEEDED, status.UNAVAILABLE];
  return usual.includes(error.code) ? 'Reconnect' : 'Error';
}
