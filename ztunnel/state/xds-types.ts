// The two resource types of a ztunnel, from bytes to changes of the store (facts: ztunnel 8). Each resource is decoded by itself, so that
// a faulty one is refused by name and the others of the response count.
import { fromBinary } from '@bufbuild/protobuf';
import { AuthorizationSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import { AddressSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { NamedResource, ResourceType } from '#shared/xds/resource-type.ts';
import { decodePolicy } from './decode-policy.ts';
import { BatchWriter, decodeAddress, serviceKeys, workloadKeys } from './encoded.ts';
import type { MeshStore, StateChange } from './store.ts';

/**
 * Workloads and services, kept as they came once they were found right. `onHeard` is told of each response when it is in the store; the
 * bytes of its resources are there for that call only.
 */
export function addressType(
  store: MeshStore,
  log: Log,
  onHeard?: (set: readonly NamedResource<Uint8Array | undefined>[], removed: readonly string[]) => void,
): ResourceType<Uint8Array | undefined> {
  const writer = new BatchWriter();
  return {
    typeUrl: `type.googleapis.com/${AddressSchema.typeName}`,
    decode(bytes): Uint8Array | undefined {
      const decoded = decodeAddress(bytes, (message) => log.warn(message));
      if (decoded.kind === 'service') writer.add(bytes, serviceKeys(decoded.service, store.seed));
      else writer.add(bytes, workloadKeys(decoded.workload, store.workloads.isLocal(decoded.workload), store.seed));
      return onHeard && bytes;
    },
    apply({ set, removed }) {
      const changes = removed.map((name): StateChange => ({ kind: 'remove-address', name }));
      for (const batch of writer.take()) changes.push({ kind: 'encoded', batch });
      store.apply(changes);
      onHeard?.(set, removed);
      return [];
    },
    discard: () => void writer.take(),
  };
}

/** L4 policies. */
export function authorizationType(store: MeshStore): ResourceType<StateChange> {
  return {
    typeUrl: `type.googleapis.com/${AuthorizationSchema.typeName}`,
    decode: (bytes, name) => ({
      kind: 'policy',
      policy: decodePolicy(name, fromBinary(AuthorizationSchema, bytes, { readUnknownFields: false })),
    }),
    apply({ set, removed }) {
      const changes = set.map(({ resource }) => resource);
      store.apply([...removed.map((key): StateChange => ({ kind: 'remove-policy', key })), ...changes]);
      return [];
    },
  };
}
