// The xDS server: adds both forms of ADS to gRPC servers, keeps the streams, and pushes each new snapshot to all of them.
import { status } from '@grpc/grpc-js';
import type { Server, ServerDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import type { Snapshot } from '../snapshot/snapshot.ts';
import { adsMetrics } from './ads-metrics.ts';
import type { AdsMetrics } from './ads-metrics.ts';
import { AdsStream } from './ads-stream.ts';
import type { GeneratorRegistry } from './generator.ts';
import type { AdsCaller } from './identity.ts';
import { DELTA, SOTW } from './protocols.ts';
import type { Protocol } from './protocols.ts';
import { PushQueue } from './push-queue.ts';
import { RpcError } from './rpc-error.ts';

export type AdsGrpcCall = ServerDuplexStream<Buffer, Buffer>;

export interface AdsServerOptions {
  registry: GeneratorRegistry;
  snapshot: () => Snapshot;
  metrics: Metrics;
  clock: Clock;
  log: Log;
  /** Streams at once; more are refused with RESOURCE_EXHAUSTED. Default 10,000. */
  maxStreams?: number;
}

const SERVICE = '/envoy.service.discovery.v3.AggregatedDiscoveryService/';

export class AdsServer {
  #options: AdsServerOptions;
  #metrics: AdsMetrics;
  #streams = new Set<AdsStream>();
  #queue = new PushQueue();
  #maxStreams: number;
  /** Streams whose caller is not known yet count too. */
  #opening = 0;

  constructor(options: AdsServerOptions) {
    this.#options = options;
    this.#maxStreams = options.maxStreams ?? 10_000;
    this.#metrics = adsMetrics(options.metrics, () => this.#streams.size);
  }

  /** `authenticate` undefined: nobody has to prove who they are (the plaintext port). */
  addTo(server: Server, authenticate?: (call: AdsGrpcCall) => Promise<AdsCaller>): void {
    const bytes = (value: Buffer): Buffer => value;
    const codec = { requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
    const method = (name: string): object => ({ path: `${SERVICE}${name}`, requestStream: true, responseStream: true, ...codec });
    server.addService(
      { delta: method('DeltaAggregatedResources'), sotw: method('StreamAggregatedResources') } as unknown as Parameters<
        Server['addService']
      >[0],
      {
        delta: (call: AdsGrpcCall) => void this.#accept(call, DELTA, authenticate),
        sotw: (call: AdsGrpcCall) => void this.#accept(call, SOTW, authenticate),
      },
    );
  }

  get streams(): ReadonlySet<AdsStream> {
    return this.#streams;
  }

  /** Tells every proxy what is new in the present snapshot, one after another. */
  pushAll(): void {
    for (const stream of this.#streams) this.#queue.add(stream);
  }

  /** Ends every stream; the proxies connect again, to another replica if there is one. */
  close(): void {
    for (const stream of this.#streams) stream.fail(new RpcError(status.UNAVAILABLE, 'the control plane shuts down'));
  }

  /** Never rejects. */
  async #accept(
    call: AdsGrpcCall,
    protocol: Protocol,
    authenticate: ((call: AdsGrpcCall) => Promise<AdsCaller>) | undefined,
  ): Promise<void> {
    const { registry, snapshot, clock, log } = this.#options;
    const refuse = (code: status, details: string): void => {
      log.warn('xDS stream refused', { peer: call.getPeer(), reason: details });
      call.emit('error', new RpcError(code, details));
    };
    call.on('error', () => undefined);
    if (this.#streams.size + this.#opening >= this.#maxStreams) {
      this.#metrics.refusedStreams.add(1);
      return refuse(status.RESOURCE_EXHAUSTED, `more than ${this.#maxStreams} proxies`);
    }
    this.#opening += 1;
    try {
      const caller = await authenticate?.(call);
      if (call.cancelled) return;
      const stream = new AdsStream(call, caller, {
        protocol,
        registry,
        snapshot,
        metrics: this.#metrics,
        clock,
        log,
        onClose: (closed) => {
          this.#streams.delete(closed);
          this.#queue.remove(closed);
        },
      });
      this.#streams.add(stream);
    } catch (error) {
      refuse(status.UNAUTHENTICATED, MeshError.from(error).message);
    } finally {
      this.#opening -= 1;
    }
  }
}
