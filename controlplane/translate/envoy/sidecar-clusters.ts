// Clusters of a sidecar: one for every port of every service of the mesh, and the fixed ones (facts: control plane 4.1).
import { create } from '@bufbuild/protobuf';
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { TlsParameters_TlsProtocol } from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts';
import { UpstreamTlsContextSchema } from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { RawBufferSchema } from '#shared/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts';
import type { Port, Service } from '#shared/gen/istio/workload/workload_pb.ts';
import { http2Options, passthroughCluster, wantsHttp2 } from './clusters.ts';
import { ads, duration, metadata, transportSocket } from './messages.ts';
import { outbound } from './names.ts';
import { commonContext } from './tls.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const INBOUND_PASSTHROUGH = 'InboundPassthroughCluster';

/** How sidecars speak to each other: undefined is plain TCP, else mTLS with certificates of these trust domains. */
export type SidecarMtls = readonly string[] | undefined;

export function outboundCluster(service: Service, port: Port, mtls: SidecarMtls): Cluster {
  return create(ClusterSchema, {
    name: outbound(port.servicePort, service.hostname),
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: ads() },
    connectTimeout: duration(CONNECT_TIMEOUT_MS),
    lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
    ...(mtls ? { transportSocketMatches: socketMatches(service, port, mtls) } : {}),
    ...(wantsHttp2(port.appProtocol) ? { typedExtensionProtocolOptions: http2Options() } : {}),
    metadata: metadata({
      istio: { services: [{ host: service.hostname, name: service.name, namespace: service.namespace }] },
    }),
  });
}

/** mTLS to endpoints that have a sidecar, plain TCP to any other. */
function socketMatches(service: Service, port: Port, trustDomains: readonly string[]): Cluster['transportSocketMatches'] {
  const tls = transportSocket('envoy.transport_sockets.tls', UpstreamTlsContextSchema, {
    commonTlsContext: commonContext(trustDomains, ['istio'], TlsParameters_TlsProtocol.TLSv1_2),
    sni: `outbound_.${port.servicePort}_._.${service.hostname}`,
  });
  const plain = transportSocket('envoy.transport_sockets.raw_buffer', RawBufferSchema, {});
  return create(ClusterSchema, {
    transportSocketMatches: [
      { name: 'tlsMode-istio', match: { tlsMode: 'istio' }, transportSocket: tls },
      { name: 'tlsMode-disabled', match: {}, transportSocket: plain },
    ],
  }).transportSocketMatches;
}

/** To the application beside the sidecar: wherever the connection was meant to go. */
export function inboundCluster(port: number): Cluster {
  return create(ClusterSchema, { ...passthroughCluster(), name: inboundName(port) });
}

export function inboundName(port: number): string {
  return port === 0 ? INBOUND_PASSTHROUGH : `inbound|${port}||`;
}
