// Short forms for the pieces that every Envoy resource is made of.
import { create, type DescMessage, type MessageInitShape } from '@bufbuild/protobuf';
import { type Any, anyPack, type Duration, DurationSchema } from '@bufbuild/protobuf/wkt';
import type { JsonObject } from '@bufbuild/protobuf';
import { type Address, AddressSchema } from '#shared/gen/envoy/config/core/v3/address_pb.ts';
import {
  type Metadata,
  MetadataSchema,
  type TransportSocket,
  TransportSocketSchema,
} from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import { ApiVersion, type ConfigSource, ConfigSourceSchema } from '#shared/gen/envoy/config/core/v3/config_source_pb.ts';

/** A typed extension's configuration. */
export function any<D extends DescMessage>(schema: D, init: MessageInitShape<D>): Any {
  return anyPack(schema, create(schema, init));
}

export function transportSocket<D extends DescMessage>(name: string, schema: D, init: MessageInitShape<D>): TransportSocket {
  return create(TransportSocketSchema, { name, configType: { case: 'typedConfig', value: any(schema, init) } });
}

/** The same for fields that hold a oneof (`typed_config` beside other sources of it): filters of every kind, access logs. */
export function typed<D extends DescMessage>(
  name: string,
  schema: D,
  init: MessageInitShape<D>,
): { name: string; configType: { case: 'typedConfig'; value: Any } } {
  return { name, configType: { case: 'typedConfig', value: any(schema, init) } };
}

export function duration(ms: number): Duration {
  return create(DurationSchema, { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.round((ms % 1000) * 1e6) });
}

export function socketAddress(ip: string, port: number): Address {
  return create(AddressSchema, {
    address: { case: 'socketAddress', value: { address: ip, portSpecifier: { case: 'portValue', value: port } } },
  });
}

/** The internal listener `listener`; `endpointId` tells endpoints of one cluster apart. */
export function internalAddress(listener: string, endpointId = ''): Address {
  return create(AddressSchema, {
    address: {
      case: 'envoyInternalAddress',
      value: { addressNameSpecifier: { case: 'serverListenerName', value: listener }, endpointId },
    },
  });
}

/** Configuration comes over the same aggregated stream. */
export function ads(): ConfigSource {
  return create(ConfigSourceSchema, {
    resourceApiVersion: ApiVersion.V3,
    configSourceSpecifier: { case: 'ads', value: {} },
  });
}

export function metadata(filters: Record<string, JsonObject>): Metadata {
  return create(MetadataSchema, { filterMetadata: filters });
}
