// The filter chains of `main_internal`: an HTTP connection manager with policy and router, or policy and a TCP proxy.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { AccessLogSchema } from '#shared/gen/envoy/config/accesslog/v3/accesslog_pb.ts';
import {
  type FilterChain,
  FilterChainSchema,
  type FilterSchema,
} from '#shared/gen/envoy/config/listener/v3/listener_components_pb.ts';
import type { RBAC } from '#shared/gen/envoy/config/rbac/v3/rbac_pb.ts';
import { StdoutAccessLogSchema } from '#shared/gen/envoy/extensions/access_loggers/stream/v3/stream_pb.ts';
import { RBACSchema as HttpRbacSchema } from '#shared/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts';
import { RouterSchema } from '#shared/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import {
  HttpConnectionManager_CodecType,
  HttpConnectionManager_ServerHeaderTransformation,
  HttpConnectionManagerSchema,
} from '#shared/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { RBACSchema as NetworkRbacSchema } from '#shared/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts';
import { TcpProxySchema } from '#shared/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts';
import { ads, duration, metadata, typed } from './messages.ts';

/** Which connections a chain takes. */
export interface ChainMatch {
  readonly addresses: readonly string[];
  /** Undefined: any. */
  readonly port: number | undefined;
  /** Only connections whose first bytes are HTTP. */
  readonly detectedHttp: boolean;
}

export interface ChainInput {
  readonly name: string;
  readonly match: ChainMatch;
  readonly rbac: readonly RBAC[];
  /** The only identity that the far end of a tunnel may have, for chains that lead to one workload. */
  readonly identity?: string | undefined;
}

/** Routes come by RDS under the chain's name, so that a changed route does not touch connections. */
export function httpChain(input: ChainInput): FilterChain {
  const manager: MessageInitShape<typeof FilterSchema> = typed(
    'envoy.filters.network.http_connection_manager',
    HttpConnectionManagerSchema,
    {
      codecType: HttpConnectionManager_CodecType.AUTO,
      statPrefix: input.name,
      routeSpecifier: { case: 'rds', value: { configSource: ads(), routeConfigName: input.name } },
      httpFilters: [
        ...input.rbac.map((rules) => typed('envoy.filters.http.rbac', HttpRbacSchema, { rules })),
        typed('envoy.filters.http.router', RouterSchema, {}),
      ],
      serverHeaderTransformation: HttpConnectionManager_ServerHeaderTransformation.PASS_THROUGH,
      normalizePath: true,
      streamIdleTimeout: duration(0),
      upgradeConfigs: [{ upgradeType: 'websocket' }],
      accessLog: [stdoutLog()],
    },
  );
  return filterChain(input, [manager]);
}

export function tcpChain(input: ChainInput, cluster: string): FilterChain {
  const policies = input.rbac.map((rules) =>
    typed('envoy.filters.network.rbac', NetworkRbacSchema, { statPrefix: 'tcp.', rules }),
  );
  return filterChain(input, [...policies, tcpProxy(cluster, input.name)]);
}

export function tcpProxy(cluster: string, statPrefix: string): MessageInitShape<typeof FilterSchema> {
  return typed('envoy.filters.network.tcp_proxy', TcpProxySchema, {
    statPrefix,
    clusterSpecifier: { case: 'cluster', value: cluster },
    accessLog: [stdoutLog()],
  });
}

export function stdoutLog(): MessageInitShape<typeof AccessLogSchema> {
  return typed('envoy.access_loggers.stdout', StdoutAccessLogSchema, {});
}

function filterChain({ name, match, identity }: ChainInput, filters: MessageInitShape<typeof FilterSchema>[]): FilterChain {
  return create(FilterChainSchema, {
    name,
    filterChainMatch: {
      prefixRanges: match.addresses.map((ip) => ({ addressPrefix: ip, prefixLen: ip.includes(':') ? 128 : 32 })),
      ...(match.port === undefined ? {} : { destinationPort: match.port }),
      applicationProtocols: match.detectedHttp ? ['http/1.0', 'http/1.1', 'h2c'] : [],
    },
    filters,
    ...(identity === undefined ? {} : { metadata: metadata({ culvert: { identity } }) }),
  });
}
