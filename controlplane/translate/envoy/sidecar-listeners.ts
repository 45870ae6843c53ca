// Listeners of a sidecar. Captured connections arrive on 15001 and 15006; those of 15001 are handed by their original destination to
// the listener of that address or port, which binds to nothing itself.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { FilterSchema, FilterChainSchema } from '#shared/gen/envoy/config/listener/v3/listener_components_pb.ts';
import { type Listener, ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { TrafficDirection } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import { OriginalDstSchema } from '#shared/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.ts';
import { TlsInspectorSchema } from '#shared/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts';
import { RouterSchema } from '#shared/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import { HttpConnectionManagerSchema } from '#shared/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { TcpProxySchema } from '#shared/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts';
import { TlsParameters_TlsProtocol } from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts';
import { DownstreamTlsContextSchema } from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { PORT } from '#shared/ports.ts';
import { ads, duration, socketAddress, transportSocket, typed } from './messages.ts';
import { BLACK_HOLE, outbound, PASSTHROUGH } from './names.ts';
import { inboundName, type SidecarMtls } from './sidecar-clusters.ts';
import { commonContext } from './tls.ts';

type Filter = MessageInitShape<typeof FilterSchema>;
type Chain = MessageInitShape<typeof FilterChainSchema>;

/** Everything that no other listener takes goes where it was meant to go. */
export function virtualOutbound(): Listener {
  return create(ListenerSchema, {
    name: 'virtualOutbound',
    address: socketAddress('0.0.0.0', PORT.outbound),
    useOriginalDst: true,
    trafficDirection: TrafficDirection.OUTBOUND,
    filterChains: [blackhole('virtualOutbound-blackhole', PORT.outbound)],
    defaultFilterChain: { name: 'virtualOutbound-catchall-tcp', filters: [tcpProxy(PASSTHROUGH)] },
  });
}

/** HTTP of one port to any service: the route table of the port tells them apart. */
export function outboundHttp(port: number): Listener {
  return outboundListener(`0.0.0.0_${port}`, '0.0.0.0', port, httpManager(`outbound_0.0.0.0_${port}`, String(port)));
}

/** One TCP port of one service, told by its virtual address. */
export function outboundTcp(ip: string, port: number, host: string): Listener {
  return outboundListener(`${ip}_${port}`, ip, port, tcpProxy(outbound(port, host)));
}

function outboundListener(name: string, ip: string, port: number, filter: Filter): Listener {
  return create(ListenerSchema, {
    name,
    address: socketAddress(ip, port),
    bindToPort: false,
    trafficDirection: TrafficDirection.OUTBOUND,
    filterChains: [{ filters: [filter] }],
  });
}

export interface InboundPort {
  /** Of the application. */
  readonly port: number;
  readonly http: boolean;
}

/** Connections to the pod: mTLS or plain (as PERMISSIVE), to the application's port as it stands. */
export function virtualInbound(ports: readonly InboundPort[], mtls: SidecarMtls): Listener {
  const chains = ports.flatMap(({ port, http }): Chain[] => {
    const filter = http ? httpManager(`inbound_0.0.0.0_${port}`, inboundName(port)) : tcpProxy(inboundName(port));
    const plain: Chain = { name: `0.0.0.0_${port}`, filterChainMatch: { destinationPort: port }, filters: [filter] };
    if (!mtls) return [plain];
    const match = { destinationPort: port, transportProtocol: 'tls', applicationProtocols: ['istio'] };
    return [
      { ...plain, filterChainMatch: match, transportSocket: serverTls(mtls) },
      { ...plain, name: `0.0.0.0_${port}_plain` },
    ];
  });
  return create(ListenerSchema, {
    name: 'virtualInbound',
    address: socketAddress('0.0.0.0', PORT.inboundPlaintext),
    trafficDirection: TrafficDirection.INBOUND,
    listenerFilters: [
      typed('envoy.filters.listener.original_dst', OriginalDstSchema, {}),
      ...(mtls ? [typed('envoy.filters.listener.tls_inspector', TlsInspectorSchema, {})] : []),
    ],
    continueOnListenerFiltersTimeout: true,
    listenerFiltersTimeout: duration(1000),
    filterChains: [blackhole('virtualInbound-blackhole', PORT.inboundPlaintext), ...chains],
    defaultFilterChain: { name: 'virtualInbound', filters: [tcpProxy(inboundName(0))] },
  });
}

function serverTls(trustDomains: readonly string[]): ReturnType<typeof transportSocket> {
  return transportSocket('envoy.transport_sockets.tls', DownstreamTlsContextSchema, {
    commonTlsContext: commonContext(trustDomains, ['istio'], TlsParameters_TlsProtocol.TLSv1_2),
    requireClientCertificate: true,
  });
}

/** A connection to the proxy's own port would loop. */
function blackhole(name: string, port: number): Chain {
  return { name, filterChainMatch: { destinationPort: port }, filters: [tcpProxy(BLACK_HOLE)] };
}

function tcpProxy(cluster: string): Filter {
  return typed('envoy.filters.network.tcp_proxy', TcpProxySchema, {
    statPrefix: cluster,
    clusterSpecifier: { case: 'cluster', value: cluster },
  });
}

function httpManager(statPrefix: string, routes: string): Filter {
  return typed('envoy.filters.network.http_connection_manager', HttpConnectionManagerSchema, {
    statPrefix,
    routeSpecifier: { case: 'rds', value: { configSource: ads(), routeConfigName: routes } },
    httpFilters: [typed('envoy.filters.http.router', RouterSchema, {})],
    normalizePath: true,
    streamIdleTimeout: duration(0),
    upgradeConfigs: [{ upgradeType: 'websocket' }],
  });
}
