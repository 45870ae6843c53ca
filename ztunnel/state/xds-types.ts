// The two resource types of a ztunnel, from bytes to changes of the store (facts: ztunnel 8). Each resource is decoded by itself, so that
// a faulty one is refused by name and the others of the response count.
import { fromBinary } from '@bufbuild/protobuf';
import { MeshError } from '#shared/errors.ts';
import { AuthorizationSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import { AddressSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { ResourceType } from '#shared/xds/resource-type.ts';
import { decodeService, decodeWorkload } from './decode-address.ts';
import { decodePolicy } from './decode-policy.ts';
import type { MeshStore, StateChange } from './store.ts';

/** Workloads and services. */
export function addressType(store: MeshStore, log: Log): ResourceType<StateChange> {
  return {
    typeUrl: `type.googleapis.com/${AddressSchema.typeName}`,
    decode(bytes): StateChange {
      const { type } = fromBinary(AddressSchema, bytes, { readUnknownFields: false });
      switch (type.case) {
        case 'workload':
          return { kind: 'workload', workload: decodeWorkload(type.value) };
        case 'service':
          return { kind: 'service', service: decodeService(type.value, (message) => log.warn(message)) };
        case undefined:
          throw new MeshError('invalid_config', 'the address is neither a workload nor a service');
      }
    },
    apply({ set, removed }) {
      const changes = set.map(({ resource }) => resource);
      store.apply([...removed.map((name): StateChange => ({ kind: 'remove-address', name })), ...changes]);
      return [];
    },
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
