// Clusters of a waypoint: one for every port and protocol that it serves or routes to, and the fixed ones that tunnels run through.
import { create } from '@bufbuild/protobuf';
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import type { TransportSocket } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import { InternalUpstreamTransportSchema } from '#shared/gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.ts';
import { RawBufferSchema } from '#shared/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts';
import { HttpProtocolOptionsSchema } from '#shared/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts';
import { AppProtocol, type Service } from '#shared/gen/istio/workload/workload_pb.ts';
import { PORT } from '#shared/ports.ts';
import { ads, any, duration, internalAddress, metadata, transportSocket } from './messages.ts';
import { BLACK_HOLE, CONNECT_ORIGINATE, ENCAP, MAIN_INTERNAL, ORIGINAL_DST, PASSTHROUGH } from './names.ts';
import { hboneClient } from './tls.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

/** A service port; its endpoints come by EDS under the same name. `http2`: the backend wants HTTP/2 without negotiation. */
export function serviceCluster(name: string, service: Service, http2: boolean): Cluster {
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: ads() },
    connectTimeout: duration(CONNECT_TIMEOUT_MS),
    lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
    transportSocket: internalUpstream(),
    ...(http2 ? { typedExtensionProtocolOptions: http2Options() } : {}),
    metadata: metadata({
      istio: { services: [{ host: service.hostname, name: service.name, namespace: service.namespace }] },
    }),
  });
}

export function wantsHttp2(protocol: AppProtocol): boolean {
  return protocol === AppProtocol.HTTP2 || protocol === AppProtocol.GRPC;
}

/** From the tunnel's end to the listener that picks the chain. */
export function mainInternalCluster(): Cluster {
  return toInternalListener(MAIN_INTERNAL);
}

/** To the address that the connection was meant for, through a tunnel. */
export function encapCluster(): Cluster {
  return toInternalListener(ENCAP, CONNECT_ORIGINATE);
}

/** New tunnels, by the address that `connect_originate` was entered with. */
export function connectOriginateCluster(trustDomains: readonly string[]): Cluster {
  return create(ClusterSchema, {
    name: CONNECT_ORIGINATE,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.ORIGINAL_DST },
    lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
    lbConfig: { case: 'originalDstLbConfig', value: { upstreamPortOverride: PORT.hbone } },
    connectTimeout: duration(CONNECT_TIMEOUT_MS),
    cleanupInterval: duration(60_000),
    typedExtensionProtocolOptions: http2Options(true),
    transportSocket: hboneClient(trustDomains),
  });
}

/** Plain TCP to the address that the connection was meant for. */
export function passthroughCluster(): Cluster {
  return create(ClusterSchema, {
    name: PASSTHROUGH,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.ORIGINAL_DST },
    lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
    connectTimeout: duration(CONNECT_TIMEOUT_MS),
  });
}

/** Leads nowhere: connections to what this waypoint does not serve. */
export function blackHoleCluster(): Cluster {
  return create(ClusterSchema, {
    name: BLACK_HOLE,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.STATIC },
    connectTimeout: duration(CONNECT_TIMEOUT_MS),
  });
}

function toInternalListener(name: string, listener = name): Cluster {
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.STATIC },
    connectTimeout: duration(CONNECT_TIMEOUT_MS),
    loadAssignment: {
      clusterName: name,
      endpoints: [{ lbEndpoints: [{ hostIdentifier: { case: 'endpoint', value: { address: internalAddress(listener) } } }] }],
    },
    transportSocket: internalUpstream(),
  });
}

export function http2Options(connect = false): { [name: string]: ReturnType<typeof any> } {
  return {
    [HTTP_OPTIONS]: any(HttpProtocolOptionsSchema, {
      upstreamProtocolOptions: {
        case: 'explicitHttpConfig',
        value: { protocolConfig: { case: 'http2ProtocolOptions', value: { allowConnect: connect } } },
      },
    }),
  };
}

/** Hands endpoint metadata and shared filter state on to an internal listener; has no effect on endpoints with a socket address. */
function internalUpstream(): TransportSocket {
  return transportSocket('envoy.transport_sockets.internal_upstream', InternalUpstreamTransportSchema, {
    passthroughMetadata: [{ name: ORIGINAL_DST, kind: { kind: { case: 'host', value: {} } } }],
    transportSocket: transportSocket('envoy.transport_sockets.raw_buffer', RawBufferSchema, {}),
  });
}
