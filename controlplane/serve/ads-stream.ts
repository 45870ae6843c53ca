// One stream of one proxy. Requests are answered at once, changes when the push queue comes by; nothing is sent to a proxy that has
// not answered the last response or whose connection is full, so a slow reader costs one response and holds up nobody.
import { status } from '@grpc/grpc-js';
import type { Clock, Timer } from '#shared/clock.ts';
import type { Log } from '#shared/telemetry/log.ts';
import { ResourceSet } from '../snapshot/resource-set.ts';
import type { Snapshot } from '../snapshot/snapshot.ts';
import type { AdsMetrics } from './ads-metrics.ts';
import type { GeneratorRegistry } from './generator.ts';
import { checkNodeIdentity } from './identity.ts';
import type { AdsCaller } from './identity.ts';
import { parseNode } from './node.ts';
import type { ProxyNode } from './node.ts';
import type { Protocol } from './protocols.ts';
import { RpcError } from './rpc-error.ts';
import type { AdsRequest, AdsResponse, Subscription } from './subscription.ts';
import { inPushOrder, shortType, TYPE } from './types.ts';

/** The gRPC call, as far as a stream needs it. */
export interface AdsCall {
  getPeer(): string;
  write(bytes: Buffer): boolean;
  on(event: 'data', listener: (bytes: Buffer) => void): unknown;
  on(event: 'drain' | 'end' | 'cancelled', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  end(): void;
  /** grpc-js ends the call with the status of an error that is emitted. */
  emit(event: 'error', error: RpcError): unknown;
}

export interface AdsStreamDeps {
  protocol: Protocol;
  registry: GeneratorRegistry;
  snapshot(): Snapshot;
  metrics: AdsMetrics;
  clock: Clock;
  log: Log;
  onClose(stream: AdsStream): void;
}

/** A proxy has this long to say who it is, ms. */
const FIRST_REQUEST = 30_000;
/** Types that one stream may subscribe to. */
const MAX_TYPES = 32;
const MAX_TYPE_URL = 256;

export class AdsStream {
  readonly connected: number;
  readonly protocol: Protocol['name'];
  readonly peer: string;
  #call: AdsCall;
  #deps: AdsStreamDeps;
  #caller: AdsCaller | undefined;
  #node: ProxyNode | undefined;
  #subscriptions = new Map<string, Subscription>();
  /** When what a response tells began to change, by its nonce; for pushes only. */
  #pushed = new Map<string, number>();
  #full = false;
  #closed = false;
  #deadline: Timer;

  constructor(call: AdsCall, caller: AdsCaller | undefined, deps: AdsStreamDeps) {
    this.#call = call;
    this.#caller = caller;
    this.#deps = deps;
    this.connected = deps.clock.now();
    this.protocol = deps.protocol.name;
    this.peer = call.getPeer();
    this.#deadline = deps.clock.after(FIRST_REQUEST, () => this.fail(new RpcError(status.DEADLINE_EXCEEDED, 'no request came')));
    call.on('data', (bytes) => this.#guard(() => this.#receive(bytes)));
    call.on('drain', () => {
      this.#full = false;
      this.push();
    });
    call.on('end', () => {
      if (!this.#closed) call.end();
      this.#close();
    });
    call.on('cancelled', () => this.#close());
    call.on('error', () => this.#close());
  }

  /** Undefined until the first request. */
  get node(): ProxyNode | undefined {
    return this.#node;
  }

  get caller(): AdsCaller | undefined {
    return this.#caller;
  }

  get subscriptions(): readonly Subscription[] {
    return [...this.#subscriptions.values()];
  }

  /** Sends what the proxy lacks of the present snapshot; never throws. */
  push(): void {
    this.#guard(() => {
      for (const typeUrl of [...this.#subscriptions.keys()].sort(inPushOrder)) this.#respond(typeUrl);
    });
  }

  /** Ends the call with a status. */
  fail(error: RpcError): void {
    if (this.#closed) return;
    this.#close();
    this.#call.emit('error', error);
  }

  #receive(bytes: Buffer): void {
    const { protocol, log } = this.#deps;
    const { node, request } = protocol.decode(bytes);
    if (!this.#node) {
      this.#node = parseNode(node);
      if (this.#caller) checkNodeIdentity(this.#node, this.#caller);
      this.#deadline.cancel();
      log.info('proxy connected', { proxy: this.#node.id, protocol: protocol.name, identity: this.#caller?.identity });
    }
    const subscription = this.#subscriptionOf(request.typeUrl, this.#node);
    this.#note(subscription.accept(request), subscription, request);
    // An answer frees the way for what was held back meanwhile.
    this.#respond(request.typeUrl);
  }

  #subscriptionOf(typeUrl: string, { nodeName }: ProxyNode): Subscription {
    let subscription = this.#subscriptions.get(typeUrl);
    if (!subscription) {
      if (typeUrl === '') throw new RpcError(status.INVALID_ARGUMENT, 'the request has no type_url');
      if (typeUrl.length > MAX_TYPE_URL) throw new RpcError(status.INVALID_ARGUMENT, 'the type_url is too long');
      if (this.#subscriptions.size >= MAX_TYPES) throw new RpcError(status.RESOURCE_EXHAUSTED, `more than ${MAX_TYPES} types`);
      subscription = this.#deps.protocol.subscription(typeUrl, nodeName);
      this.#subscriptions.set(typeUrl, subscription);
    }
    return subscription;
  }

  #note(meaning: ReturnType<Subscription['accept']>, subscription: Subscription, request: AdsRequest): void {
    const { metrics, log, clock } = this.#deps;
    const type = shortType(subscription.typeUrl);
    const changed = this.#pushed.get(request.responseNonce);
    this.#pushed.delete(request.responseNonce);
    if (meaning === 'ack' && changed !== undefined) metrics.convergence.observe((clock.monotonic() - changed) / 1000);
    if (meaning === 'stale') metrics.staleNonces.add(1, type);
    if (meaning !== 'nack') return;
    metrics.rejects.add(1, type);
    log.warn('proxy refused configuration', { proxy: this.#node?.id, type, reason: request.errorDetail });
  }

  #respond(typeUrl: string): void {
    const { metrics, clock } = this.#deps;
    const subscription = this.#subscriptions.get(typeUrl);
    if (!subscription || !this.#node || this.#full || this.#closed || !subscription.mayRespond) return;
    const snapshot = this.#deps.snapshot();
    // Before the first snapshot nothing is known: an empty answer would take everything from a proxy that reconnects.
    if (snapshot.sequence === 0) return;
    const start = clock.monotonic();
    const set = this.#generate(snapshot, this.#node, typeUrl);
    if (!set) return;
    const { owed } = subscription;
    const response = subscription.respond(set, snapshot.sequence);
    if (!response) return;
    if (!owed) this.#pushed.set(subscription.status.nonceSent, snapshot.changed);
    this.#full = !this.#call.write(response.bytes);
    const type = shortType(typeUrl);
    metrics.pushes.add(1, type);
    metrics.size.observe({ type: type === 'other' ? type : typeUrl }, response.bytes.length);
    metrics.pushTime.observe({ type }, (clock.monotonic() - start) / 1000);
    if (typeUrl === TYPE.cluster) this.#warmEndpoints(response);
  }

  /** A type that is not served is empty, so that no proxy waits for it. Undefined on a fault of ours: the proxy keeps what it has. */
  #generate(snapshot: Snapshot, node: ProxyNode, typeUrl: string): ResourceSet | undefined {
    const { registry, metrics, log } = this.#deps;
    try {
      return registry.find(node.kind, typeUrl)?.generate(snapshot, node, typeUrl) ?? ResourceSet.empty;
    } catch (error) {
      metrics.internalErrors.add(1);
      log.error('cannot make configuration', {
        proxy: node.id,
        type: shortType(typeUrl),
        error: error as Error,
        stack: (error as Error).stack,
      });
      return undefined;
    }
  }

  /** A cluster that is sent anew waits for its endpoints, also where they have not changed. */
  #warmEndpoints({ names }: AdsResponse): void {
    const endpoints = this.#subscriptions.get(TYPE.endpoints);
    if (!endpoints || names.length === 0) return;
    endpoints.forget(names);
    this.#respond(TYPE.endpoints);
  }

  #guard(run: () => void): void {
    if (this.#closed) return;
    try {
      run();
    } catch (error) {
      if (error instanceof RpcError) {
        this.#deps.log.warn('xDS stream refused', { peer: this.peer, proxy: this.#node?.id, error });
        return this.fail(error);
      }
      this.#deps.metrics.internalErrors.add(1);
      this.#deps.log.error('xDS stream failed', { proxy: this.#node?.id, error: error as Error, stack: (error as Error).stack });
      this.fail(new RpcError(status.INTERNAL, 'the control plane failed on this request; its log says why'));
    }
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#deadline.cancel();
    if (this.#node) this.#deps.log.info('proxy disconnected', { proxy: this.#node.id });
    this.#deps.onClose(this);
  }
}
