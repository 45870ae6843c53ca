// What ztunnels get: the snapshot's own resources, the same for each of them.
import { createRegistry } from '@bufbuild/protobuf';
import { AuthorizationSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import { AddressSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import { ResourceSet } from '../snapshot/resource-set.ts';
import type { Snapshot } from '../snapshot/snapshot.ts';
import type { Generator } from './generator.ts';
import type { ProxyNode } from './node.ts';
import { TYPE } from './types.ts';

export const ztunnelGenerator: Generator = {
  registry: createRegistry(AddressSchema, AuthorizationSchema),
  generate(snapshot: Snapshot, _node: ProxyNode, typeUrl: string): ResourceSet {
    switch (typeUrl) {
      case TYPE.address:
        return snapshot.addresses;
      case TYPE.authorization:
        return snapshot.authorizations;
      default:
        return ResourceSet.empty;
    }
  },
};
