// A delta response read resource by resource: a full state is tens of megabytes, and objects for all of it at once would be several times
// that.
import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { ResourceSchema } from '../gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { Resource } from '../gen/envoy/service/discovery/v3/discovery_pb.ts';

export interface DeltaResponse {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly removedResources: readonly string[];
  /** Each is read when its turn comes; throws when the bytes are none. To be gone through once. */
  readonly resources: Iterable<Resource>;
}

/** Fields of envoy.service.discovery.v3.DeltaDiscoveryResponse. */
const FIELD = { resources: 2, typeUrl: 4, nonce: 5, removedResources: 6 } as const;

/** Throws when the bytes are no message. */
export function readDeltaResponse(bytes: Uint8Array): DeltaResponse {
  const removedResources: string[] = [];
  let [typeUrl, nonce] = ['', ''];
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === FIELD.typeUrl) typeUrl = reader.string();
    else if (field === FIELD.nonce) nonce = reader.string();
    else if (field === FIELD.removedResources) removedResources.push(reader.string());
    else reader.skip(wireType, field);
  }
  return { typeUrl, nonce, removedResources, resources: resourcesOf(bytes) };
}

function* resourcesOf(bytes: Uint8Array): Generator<Resource> {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === FIELD.resources) yield fromBinary(ResourceSchema, reader.bytes(), { readUnknownFields: false });
    else reader.skip(wireType, field);
  }
}
