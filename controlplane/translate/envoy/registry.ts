// Every message type that our Envoy resources hold, Any included, so that debug pages can print them.
import { createRegistry } from '@bufbuild/protobuf';
import { ClusterSchema } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { ClusterLoadAssignmentSchema } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import { StdoutAccessLogSchema } from '#shared/gen/envoy/extensions/access_loggers/stream/v3/stream_pb.ts';
import { RBACSchema as HttpRbacSchema } from '#shared/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts';
import { RouterSchema } from '#shared/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import { ConfigSchema as SetFilterStateSchema } from '#shared/gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.ts';
import { HttpInspectorSchema } from '#shared/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.ts';
import { OriginalDstSchema } from '#shared/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.ts';
import { TlsInspectorSchema } from '#shared/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts';
import { HttpConnectionManagerSchema } from '#shared/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { RBACSchema as NetworkRbacSchema } from '#shared/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts';
import { TcpProxySchema } from '#shared/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts';
import { InternalUpstreamTransportSchema } from '#shared/gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.ts';
import { RawBufferSchema } from '#shared/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts';
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { HttpProtocolOptionsSchema } from '#shared/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts';

export const envoyRegistry = createRegistry(
  ClusterSchema,
  ClusterLoadAssignmentSchema,
  ListenerSchema,
  RouteConfigurationSchema,
  StdoutAccessLogSchema,
  HttpRbacSchema,
  RouterSchema,
  SetFilterStateSchema,
  HttpInspectorSchema,
  OriginalDstSchema,
  TlsInspectorSchema,
  HttpConnectionManagerSchema,
  NetworkRbacSchema,
  TcpProxySchema,
  InternalUpstreamTransportSchema,
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  HttpProtocolOptionsSchema,
);
