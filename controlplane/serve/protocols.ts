// The two forms of ADS on the wire: how a request is read, and which subscription keeps its state.
import { fromBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import type { Node } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import { DeltaDiscoveryRequestSchema, DiscoveryRequestSchema } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { DeltaSubscription } from './delta-subscription.ts';
import { RpcError } from './rpc-error.ts';
import { SotwSubscription } from './sotw-subscription.ts';
import type { AdsRequest, Subscription } from './subscription.ts';

export interface Protocol {
  readonly name: 'delta' | 'sotw';
  /** Throws INVALID_ARGUMENT. The node is on the first request of a stream at least. */
  decode(bytes: Uint8Array): { node: Node | undefined; request: AdsRequest };
  /** `node` is the Kubernetes node of the proxy, '' when it did not tell. */
  subscription(typeUrl: string, node: string): Subscription;
}

export const DELTA: Protocol = {
  name: 'delta',
  decode(bytes) {
    const message = decoding(() => fromBinary(DeltaDiscoveryRequestSchema, bytes, { readUnknownFields: false }));
    const { node, typeUrl, responseNonce, errorDetail, initialResourceVersions } = message;
    return {
      node,
      request: {
        typeUrl,
        responseNonce,
        errorDetail: errorDetail && (errorDetail.message || `code ${errorDetail.code}`),
        names: message.resourceNamesSubscribe,
        unsubscribe: message.resourceNamesUnsubscribe,
        initialVersions: initialResourceVersions,
      },
    };
  },
  subscription: (typeUrl, node) => new DeltaSubscription(typeUrl, node),
};

export const SOTW: Protocol = {
  name: 'sotw',
  decode(bytes) {
    const { node, typeUrl, responseNonce, errorDetail, resourceNames } = decoding(() =>
      fromBinary(DiscoveryRequestSchema, bytes, { readUnknownFields: false }),
    );
    const reason = errorDetail && (errorDetail.message || `code ${errorDetail.code}`);
    return {
      node,
      request: { typeUrl, responseNonce, errorDetail: reason, names: resourceNames, unsubscribe: [], initialVersions: {} },
    };
  },
  subscription: (typeUrl) => new SotwSubscription(typeUrl),
};

function decoding<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw new RpcError(status.INVALID_ARGUMENT, `the request cannot be read: ${(error as Error).message}`);
  }
}
