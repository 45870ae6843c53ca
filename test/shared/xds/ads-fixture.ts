// A control plane in a few lines: records what the client says on each stream and sends what a test tells it to.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServerDuplexStream, status } from '@grpc/grpc-js';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { DeltaDiscoveryRequest } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';

type Call = ServerDuplexStream<DeltaDiscoveryRequest, Buffer>;

export interface Item {
  name: string;
  version: string;
  /** Undefined: a resource without a body. */
  bytes?: Uint8Array | undefined;
  typeUrl?: string;
}

/** One stream of a client. */
export class AdsStream {
  readonly requests: DeltaDiscoveryRequest[] = [];
  readonly headers: Record<string, unknown>;
  #call: Call;
  #waiting: (() => void)[] = [];

  constructor(call: Call) {
    this.#call = call;
    this.headers = call.metadata.getMap();
    call.on('data', (request: DeltaDiscoveryRequest) => {
      this.requests.push(request);
      for (const wake of this.#waiting.splice(0)) wake();
    });
    call.on('error', () => undefined);
    call.on('end', () => call.end());
  }

  /** The first request, present or to come, that matches. */
  async request(matches: (request: DeltaDiscoveryRequest) => boolean): Promise<DeltaDiscoveryRequest> {
    for (;;) {
      const found = this.requests.find(matches);
      if (found) return found;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  send(typeUrl: string, nonce: string, items: readonly Item[], removedResources: string[] = []): void {
    const resources = items.map(({ name, version, bytes, typeUrl: own = typeUrl }) => ({
      name,
      version,
      ...(bytes && { resource: { typeUrl: own, value: bytes } }),
    }));
    const response = create(DeltaDiscoveryResponseSchema, { typeUrl, nonce, resources, removedResources });
    this.sendBytes(toBinary(DeltaDiscoveryResponseSchema, response));
  }

  sendBytes(bytes: Uint8Array): void {
    this.#call.write(Buffer.from(bytes));
  }

  end(): void {
    this.#call.end();
  }

  fail(code: status): void {
    this.#call.emit('error', { code, details: 'as the test wants' });
  }
}

export class AdsServer implements AsyncDisposable {
  #server = new Server();
  #streams: AdsStream[] = [];
  #waiting: (() => void)[] = [];
  #port = 0;

  get port(): number {
    return this.#port;
  }

  get address(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async listen(credentials = ServerCredentials.createInsecure(), port = 0): Promise<void> {
    this.#server.addService(
      {
        delta: {
          path: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
          requestStream: true,
          responseStream: true,
          requestSerialize: (request: Buffer) => request,
          requestDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
          responseSerialize: (bytes: Buffer) => bytes,
          responseDeserialize: (bytes: Buffer) => bytes,
        },
      },
      {
        delta: (call: Call) => {
          this.#streams.push(new AdsStream(call));
          for (const wake of this.#waiting.splice(0)) wake();
        },
      },
    );
    this.#port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
    });
  }

  /** The nth stream since the start, from 0. */
  async stream(index: number): Promise<AdsStream> {
    for (;;) {
      const found = this.#streams[index];
      if (found) return found;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }
}
