// A mesh of so many services and workloads as a control plane sends it: each workload a pod of one service, spread over zones and nodes.
import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
import type { Resource } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { ResourceSchema } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { AddressSchema, TunnelProtocol, WorkloadType } from '#shared/gen/istio/workload/workload_pb.ts';

export const ADDRESS = 'type.googleapis.com/istio.workload.Address';

export interface MeshSize {
  readonly services: number;
  readonly workloads: number;
}

/** The whole mesh, services first. */
export function meshResources({ services, workloads }: MeshSize): Resource[] {
  return [
    ...Array.from({ length: services }, (_, index) => serviceResource(index)),
    ...Array.from({ length: workloads }, (_, index) => workloadResource(index, services, 1)),
  ];
}

/** One workload; another `capacity` is another version of it. */
export function workloadResource(index: number, services: number, capacity: number): Resource {
  const service = services === 0 ? 0 : index % services;
  const name = `${nameOf(service)}-7d4b9c6f5d-${index.toString(36).padStart(5, '0')}`;
  const namespace = namespaceOf(service);
  const uid = `Kubernetes//Pod/${namespace}/${name}`;
  return resource(uid, {
    case: 'workload',
    value: {
      uid,
      name,
      namespace,
      addresses: [address(10, index)],
      tunnelProtocol: TunnelProtocol.HBONE,
      serviceAccount: nameOf(service),
      node: `node-${index % 500}.example.internal`,
      canonicalName: nameOf(service),
      canonicalRevision: 'latest',
      workloadType: WorkloadType.POD,
      workloadName: nameOf(service),
      clusterId: 'Kubernetes',
      locality: { region: 'region-1', zone: `region-1-${'abc'.charAt(index % 3)}` },
      services: services === 0 ? {} : { [`${namespace}/${hostOf(service)}`]: { ports: [{ servicePort: 80, targetPort: 8080 }] } },
      capacity,
    },
  });
}

function serviceResource(index: number): Resource {
  const namespace = namespaceOf(index);
  return resource(`${namespace}/${hostOf(index)}`, {
    case: 'service',
    value: {
      name: nameOf(index),
      namespace,
      hostname: hostOf(index),
      addresses: [{ network: '', address: address(100, index) }],
      ports: [
        { servicePort: 80, targetPort: 8080 },
        { servicePort: 443, targetPort: 8443 },
      ],
      canonical: true,
    },
  });
}

const nameOf = (service: number): string => `service-${service}`;
const namespaceOf = (service: number): string => `namespace-${service % 200}`;
const hostOf = (service: number): string => `${nameOf(service)}.${namespaceOf(service)}.svc.cluster.local`;

function address(first: number, index: number): Uint8Array {
  return ipToBytes(`${first}.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`) ?? new Uint8Array();
}

function resource(name: string, type: NonNullable<MessageInitShape<typeof AddressSchema>['type']>): Resource {
  const value = toBinary(AddressSchema, create(AddressSchema, { type }));
  const version = createHash('sha256').update(value).digest('hex').slice(0, 16);
  return create(ResourceSchema, { name, version, resource: { typeUrl: ADDRESS, value } });
}
