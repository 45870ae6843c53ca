// ClusterLoadAssignment → endpoints.
import {
  type Address,
  AddressSchema,
  EnvoyInternalAddressSchema,
  SocketAddressSchema,
} from '#shared/gen/envoy/config/core/v3/address_pb.ts';
import type { Metadata } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import { HealthStatus } from '#shared/gen/envoy/config/core/v3/health_check_pb.ts';
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import {
  EndpointSchema,
  type LbEndpoint,
  LbEndpointSchema,
  LocalityLbEndpointsSchema,
} from '#shared/gen/envoy/config/endpoint/v3/endpoint_components_pb.ts';
import { canonicalIp, type HostPort } from '#shared/address.ts';
import { type Endpoint, type EndpointAddress, labelOf } from '../cluster/cluster.ts';
import { only, type Path } from './strict.ts';

const ORIGINAL_DST = 'envoy.filters.listener.original_dst';
const USABLE: readonly HealthStatus[] = [HealthStatus.HEALTHY, HealthStatus.UNKNOWN];

export function readEndpoints(message: ClusterLoadAssignment, path: Path): Endpoint[] {
  only(ClusterLoadAssignmentSchema, message, path, ['cluster_name', 'endpoints']);
  return message.endpoints.flatMap((group, index) => {
    const at = path.at('endpoints', index);
    only(LocalityLbEndpointsSchema, group, at, ['locality', 'lb_endpoints']);
    return group.lbEndpoints
      .map((endpoint, place) => readEndpoint(endpoint, at.at('lb_endpoints', place)))
      .filter((endpoint) => endpoint !== undefined);
  });
}

/** Undefined for one that must get no traffic. */
function readEndpoint(message: LbEndpoint, path: Path): Endpoint | undefined {
  only(LbEndpointSchema, message, path, ['endpoint', 'health_status', 'load_balancing_weight', 'metadata']);
  const { hostIdentifier, healthStatus, loadBalancingWeight, metadata } = message;
  if (hostIdentifier.case !== 'endpoint') return path.refuse('needs endpoint');
  only(EndpointSchema, hostIdentifier.value, path.at('endpoint'), ['address']);
  const address = readAddress(hostIdentifier.value.address, metadata, path.at('endpoint.address'));
  if (!USABLE.includes(healthStatus)) return undefined;
  return {
    address,
    label: labelOf(address),
    weight: loadBalancingWeight ?? 1,
    identity: textAt(metadata, 'culvert', 'identity'),
    workload: textAt(metadata, 'istio', 'workload'),
    active: 0,
  };
}

function readAddress(address: Address | undefined, metadata: Metadata | undefined, path: Path): EndpointAddress {
  if (!address) return path.refuse('is missing');
  only(AddressSchema, address, path, ['socket_address', 'envoy_internal_address']);
  const { address: kind } = address;
  if (kind.case === 'socketAddress') return { kind: 'tcp', to: readSocketAddress(address, path) };
  if (kind.case !== 'envoyInternalAddress') return path.refuse('is empty');
  only(EnvoyInternalAddressSchema, kind.value, path.at('envoy_internal_address'), ['server_listener_name', 'endpoint_id']);
  const local = textAt(metadata, ORIGINAL_DST, 'local');
  const destination =
    local === undefined ? undefined : (parseHostPort(local) ?? path.refuse(`"${local}" is not an address and port`));
  return { kind: 'internal', listener: kind.value.addressNameSpecifier.value ?? '', destination };
}

export function readSocketAddress(address: Address | undefined, path: Path): HostPort {
  const kind = address?.address;
  if (kind?.case !== 'socketAddress') return path.refuse('needs socket_address');
  const at = path.at('socket_address');
  only(SocketAddressSchema, kind.value, at, ['address', 'port_value']);
  const ip = canonicalIp(kind.value.address) ?? at.at('address').refuse(`"${kind.value.address}" is not an IP address`);
  const port = kind.value.portSpecifier;
  if (port.case !== 'portValue') return at.refuse('needs port_value');
  return { ip, port: port.value };
}

/** `1.2.3.4:80`, `[fd00::1]:80` */
export function parseHostPort(text: string): HostPort | undefined {
  const [, v6, v4, digits] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/u.exec(text) ?? [];
  const ip = canonicalIp(v6 ?? v4 ?? '');
  const port = Number(digits);
  return ip === undefined || port > 65_535 ? undefined : { ip, port };
}

/** A text value of `filter_metadata[filter][key]`. */
export function textAt(metadata: Metadata | undefined, filter: string, key: string): string | undefined {
  const value = metadata?.filterMetadata[filter]?.[key];
  return typeof value === 'string' ? value : undefined;
}
