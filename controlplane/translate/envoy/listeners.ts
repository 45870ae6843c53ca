// The three listeners of a waypoint: `connect_terminate` ends the tunnels, `main_internal` picks the chain by the address that the
// client meant, `connect_originate` opens the tunnels onwards.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type FilterChain,
  FilterChainSchema,
  type FilterSchema,
  type ListenerFilterSchema,
} from '#shared/gen/envoy/config/listener/v3/listener_components_pb.ts';
import { type Listener, ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { ConfigSchema as SetFilterStateSchema } from '#shared/gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.ts';
import { RouterSchema } from '#shared/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import { HttpInspectorSchema } from '#shared/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.ts';
import { OriginalDstSchema } from '#shared/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.ts';
import { HttpConnectionManagerSchema } from '#shared/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { TcpProxySchema } from '#shared/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts';
import {
  FilterStateValue_SharedWithUpstream,
  type FilterStateValueSchema,
} from '#shared/gen/envoy/extensions/filters/common/set_filter_state/v3/value_pb.ts';
import { PORT } from '#shared/ports.ts';
import { duration, socketAddress, typed } from './messages.ts';
import {
  BLACK_HOLE,
  CONNECT_ORIGINATE,
  CONNECT_TERMINATE,
  LOCAL_PRINCIPAL,
  MAIN_INTERNAL,
  ORIGINAL_DST,
  PEER_PRINCIPAL,
} from './names.ts';
import { hboneServer } from './tls.ts';
import { tcpProxy } from './chains.ts';

/** How long a client may stay silent on a port of unknown protocol before it is taken for a server-first protocol. */
const DETECTION_TIMEOUT_MS = 1_000;
const MAX_CONCURRENT_STREAMS = 100;

export function connectTerminate(trustDomains: readonly string[]): Listener {
  return create(ListenerSchema, {
    name: CONNECT_TERMINATE,
    address: socketAddress('::', PORT.hbone),
    filterChains: [
      {
        name: 'default',
        transportSocket: hboneServer(trustDomains),
        filters: [typed('envoy.filters.network.http_connection_manager', HttpConnectionManagerSchema, terminateManager())],
      },
    ],
  });
}

function terminateManager(): MessageInitShape<typeof HttpConnectionManagerSchema> {
  return {
    statPrefix: CONNECT_TERMINATE,
    routeSpecifier: {
      case: 'routeConfig',
      value: {
        name: 'default',
        virtualHosts: [
          {
            name: 'default',
            domains: ['*'],
            routes: [
              {
                match: { pathSpecifier: { case: 'connectMatcher', value: {} } },
                action: {
                  case: 'route',
                  value: {
                    clusterSpecifier: { case: 'cluster', value: MAIN_INTERNAL },
                    upgradeConfigs: [{ upgradeType: 'CONNECT', connectConfig: {} }],
                    timeout: duration(0),
                  },
                },
              },
            ],
          },
        ],
      },
    },
    httpFilters: [
      typed('connect_authority', SetFilterStateSchema, {
        onRequestHeaders: [
          filterState(`${ORIGINAL_DST}.local_ip`, '%REQ(:AUTHORITY)%', true),
          filterState(`${ORIGINAL_DST}.remote_ip`, '%DOWNSTREAM_REMOTE_ADDRESS%'),
          filterState(PEER_PRINCIPAL, '%DOWNSTREAM_PEER_URI_SAN%'),
          filterState(LOCAL_PRINCIPAL, '%DOWNSTREAM_LOCAL_URI_SAN%'),
        ],
      }),
      typed('envoy.filters.http.router', RouterSchema, {}),
    ],
    http2ProtocolOptions: {
      allowConnect: true,
      maxConcurrentStreams: MAX_CONCURRENT_STREAMS,
      connectionKeepalive: { interval: duration(10_000), timeout: duration(20_000) },
    },
    streamIdleTimeout: duration(0),
  };
}

/** `through`: also seen by what the chain's own upstream connects to, which sends workload-addressed traffic onwards. */
function filterState(objectKey: string, format: string, through = false): MessageInitShape<typeof FilterStateValueSchema> {
  const isAddress = objectKey.startsWith(ORIGINAL_DST);
  return {
    key: { case: 'objectKey', value: objectKey },
    ...(isAddress ? {} : { factoryKey: 'envoy.string' }),
    value: {
      case: 'formatString',
      value: { format: { case: 'textFormatSource', value: { specifier: { case: 'inlineString', value: format } } } },
    },
    sharedWithUpstream: through ? FilterStateValue_SharedWithUpstream.TRANSITIVE : FilterStateValue_SharedWithUpstream.ONCE,
  };
}

/** `undeclared`: the ports whose protocol the first bytes must tell. */
export function mainInternal(chains: readonly FilterChain[], undeclared: readonly number[]): Listener {
  return create(ListenerSchema, {
    name: MAIN_INTERNAL,
    listenerSpecifier: { case: 'internalListener', value: {} },
    listenerFilters: [
      typed('envoy.filters.listener.original_dst', OriginalDstSchema, {}),
      ...(undeclared.length > 0 ? [httpInspector(undeclared)] : []),
    ],
    listenerFiltersTimeout: duration(DETECTION_TIMEOUT_MS),
    continueOnListenerFiltersTimeout: true,
    filterChains: [...chains],
    defaultFilterChain: create(FilterChainSchema, { name: 'blackhole', filters: [tcpProxy(BLACK_HOLE, 'blackhole')] }),
  });
}

/** Inspects connections to `ports` only: on any other port a silent client must not be waited for. `0` stands for all ports. */
function httpInspector(ports: readonly number[]): MessageInitShape<typeof ListenerFilterSchema> {
  const filter = typed('envoy.filters.listener.http_inspector', HttpInspectorSchema, {});
  if (ports.includes(0)) return filter;
  const ranges = ports.map((port) => ({
    rule: { case: 'destinationPortRange' as const, value: { start: port, end: port + 1 } },
  }));
  const [first] = ranges;
  const inspected = first && ranges.length === 1 ? first : { rule: { case: 'orMatch' as const, value: { rules: ranges } } };
  return { ...filter, filterDisabled: { rule: { case: 'notMatch', value: inspected } } };
}

export function connectOriginate(): Listener {
  const tunnel: MessageInitShape<typeof FilterSchema> = typed('envoy.filters.network.tcp_proxy', TcpProxySchema, {
    statPrefix: CONNECT_ORIGINATE,
    clusterSpecifier: { case: 'cluster', value: CONNECT_ORIGINATE },
    tunnelingConfig: { hostname: '%DOWNSTREAM_LOCAL_ADDRESS%' },
  });
  return create(ListenerSchema, {
    name: CONNECT_ORIGINATE,
    listenerSpecifier: { case: 'internalListener', value: {} },
    listenerFilters: [typed('envoy.filters.listener.original_dst', OriginalDstSchema, {})],
    filterChains: [{ filters: [tunnel] }],
  });
}
