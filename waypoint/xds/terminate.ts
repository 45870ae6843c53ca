// The listener that ends tunnels: mTLS with our own certificate, HTTP/2, every CONNECT on to one internal listener.
import { type FilterChain, FilterChainSchema } from '#shared/gen/envoy/config/listener/v3/listener_components_pb.ts';
import { type Listener as Message, ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteActionSchema, RouteMatchSchema } from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import { ConfigSchema as SetFilterStateSchema } from '#shared/gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.ts';
import { RouterSchema } from '#shared/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
} from '#shared/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { DownstreamTlsContextSchema } from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import type { HostPort } from '#shared/address.ts';
import type { Listener } from '../listener/listener.ts';
import { only, type Path, typedConfig, typeName, unpack } from './strict.ts';

const DEFAULT_MAX_STREAMS = 100;
/** What Envoy passes on by filter state, our tunnels carry as ConnectionInfo; anything else would be lost. */
const CARRIED = [
  'envoy.filters.listener.original_dst.local_ip',
  'envoy.filters.listener.original_dst.remote_ip',
  'io.istio.peer_principal',
  'io.istio.local_principal',
];

export function readTerminateListener(message: Message, address: HostPort, root: Path): Listener {
  only(ListenerSchema, message, root, ['name', 'address', 'filter_chains', 'traffic_direction']);
  const [chain] = message.filterChains;
  if (!chain || message.filterChains.length !== 1)
    return root.at('filter_chains').refuse('a socket listener must have one chain, which ends tunnels');
  const path = root.at('filter_chains', 0);
  only(FilterChainSchema, chain, path, ['name', 'filters', 'transport_socket']);
  checkTls(chain, path.at('transport_socket'));
  const [filter] = chain.filters;
  if (!filter || chain.filters.length !== 1) return path.at('filters').refuse('must be one HTTP connection manager');
  const at = path.at('filters', 0).at('typed_config');
  const manager = unpack(HttpConnectionManagerSchema, typedConfig(filter, at), at);
  only(HttpConnectionManagerSchema, manager, at, [
    'stat_prefix',
    'route_config',
    'http_filters',
    'http2_protocol_options',
    'stream_idle_timeout',
    'codec_type',
  ]);
  checkFilters(manager, at);
  return {
    kind: 'terminate',
    name: message.name,
    address,
    cluster: readConnectCluster(manager, at.at('route_config')),
    maxStreams: manager.http2ProtocolOptions?.maxConcurrentStreams ?? DEFAULT_MAX_STREAMS,
  };
}

function checkTls({ transportSocket }: FilterChain, path: Path): void {
  if (!transportSocket) return path.refuse('is missing: tunnels are always mTLS');
  const context = unpack(DownstreamTlsContextSchema, typedConfig(transportSocket, path), path.at('typed_config'));
  only(DownstreamTlsContextSchema, context, path.at('typed_config'), ['common_tls_context', 'require_client_certificate']);
  if (context.requireClientCertificate !== true) path.at('typed_config.require_client_certificate').refuse('must be true');
}

function checkFilters(manager: HttpConnectionManager, path: Path): void {
  for (const [index, filter] of manager.httpFilters.entries()) {
    const at = path.at('http_filters', index);
    const config = typedConfig(filter, at);
    if (typeName(config) === RouterSchema.typeName) continue;
    for (const value of unpack(SetFilterStateSchema, config, at).onRequestHeaders) {
      const key = value.key.value ?? '';
      if (!CARRIED.includes(key)) at.at('on_request_headers').refuse(`filter state "${key}" is not supported`);
    }
  }
}

function readConnectCluster(manager: HttpConnectionManager, path: Path): string {
  const routes =
    manager.routeSpecifier.case === 'routeConfig' ? manager.routeSpecifier.value.virtualHosts.flatMap((host) => host.routes) : [];
  const [route] = routes;
  if (!route || routes.length !== 1) return path.refuse('must be inline with one route');
  if (!route.match) return path.refuse('the route needs a match');
  only(RouteMatchSchema, route.match, path, ['connect_matcher']);
  if (route.action.case !== 'route') return path.refuse('the route must forward');
  only(RouteActionSchema, route.action.value, path, ['cluster', 'upgrade_configs', 'timeout']);
  const specifier = route.action.value.clusterSpecifier;
  return specifier.case === 'cluster' ? specifier.value : path.refuse('the route needs a cluster');
}
