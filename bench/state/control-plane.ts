// A control plane with one client: the whole mesh in one response, then changes of one workload as its parent asks. `control-plane.ts
// SERVICES WORKLOADS` tells its parent {port, roots}, for each response {nonce, ms} from its sending to its acknowledgement, or {fault}.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { DeltaDiscoveryRequest, Resource } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { serverCertificate } from '../tls/certificates.ts';
import { ADDRESS, meshResources, workloadResource } from './mesh.ts';

/** What the parent is told. */
export type Told =
  /** Over TLS at localhost; the roots to check it by, PEM. */
  | { readonly port: number; readonly roots: string }
  | { readonly nonce: string; readonly ms: number; readonly bytes: number }
  | { readonly fault: string };

/** What the parent says: the number of the workload to change, and its new capacity. */
export interface ChangeOrder {
  readonly index: number;
  readonly capacity: number;
}

type Call = ServerDuplexStream<DeltaDiscoveryRequest, Buffer>;

const [services = 0, workloads = 0] = process.argv.slice(2).map(Number);
const whole = responseOf(ADDRESS, 'whole', meshResources({ services, workloads }));
let stream: Call | undefined;
let changes = 0;
const sent = new Map<string, { at: number; bytes: number }>();

process.on('message', ({ index, capacity }: ChangeOrder) => {
  const nonce = `change-${(changes += 1)}`;
  send(nonce, responseOf(ADDRESS, nonce, [workloadResource(index, services, capacity)]));
});
process.once('disconnect', () => process.exit(0));

const server = new Server({ 'grpc.max_send_message_length': -1 });
server.addService(
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
      stream = call;
      call.on('data', (request: DeltaDiscoveryRequest) => heard(call, request));
      call.on('error', () => undefined);
      call.on('end', () => call.end());
    },
  },
);
const { chain, key, roots } = serverCertificate();
const pair = { cert_chain: Buffer.from(chain), private_key: Buffer.from(key) };
server.bindAsync('127.0.0.1:0', ServerCredentials.createSsl(null, [pair]), (error, port) =>
  tell(error ? { fault: error.message } : { port, roots }),
);

function heard(call: Call, { typeUrl, responseNonce, errorDetail }: DeltaDiscoveryRequest): void {
  if (errorDetail) return tell({ fault: errorDetail.message.slice(0, 1000) });
  if (responseNonce === '') {
    if (typeUrl === ADDRESS) send('whole', whole);
    else call.write(responseOf(typeUrl, 'none', []));
    return;
  }
  const response = sent.get(responseNonce);
  if (response) tell({ nonce: responseNonce, ms: performance.now() - response.at, bytes: response.bytes });
}

function send(nonce: string, bytes: Buffer): void {
  sent.set(nonce, { at: performance.now(), bytes: bytes.length });
  stream?.write(bytes);
}

function responseOf(typeUrl: string, nonce: string, resources: Resource[]): Buffer {
  const message = create(DeltaDiscoveryResponseSchema, { typeUrl, nonce, resources });
  return Buffer.from(toBinary(DeltaDiscoveryResponseSchema, message));
}

function tell(what: Told): void {
  process.send?.(what);
}
