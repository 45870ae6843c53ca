// Listener → one of our three kinds of listener.
import type { AccessLog } from '#shared/gen/envoy/config/accesslog/v3/accesslog_pb.ts';
import {
  type FilterChain as ChainMessage,
  FilterChainMatchSchema,
  FilterChainSchema,
  type ListenerFilter,
  type ListenerFilterChainMatchPredicate,
  ListenerFilterSchema,
} from '#shared/gen/envoy/config/listener/v3/listener_components_pb.ts';
import { type Listener as Message, ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { StdoutAccessLogSchema } from '#shared/gen/envoy/extensions/access_loggers/stream/v3/stream_pb.ts';
import { HttpInspectorSchema } from '#shared/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.ts';
import { OriginalDstSchema } from '#shared/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.ts';
import { HttpConnectionManagerSchema } from '#shared/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { RBACSchema as NetworkRbacSchema } from '#shared/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts';
import {
  TcpProxy_TunnelingConfigSchema,
  TcpProxySchema,
} from '#shared/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts';
import { cidrTest, readRbac } from '../filters/rbac.ts';
import type { Chain, ChainMatch, Listener, RbacCheck } from '../listener/listener.ts';
import { readSocketAddress, textAt } from './endpoints.ts';
import { readHttpManager } from './http-manager.ts';
import { readTerminateListener } from './terminate.ts';
import { milliseconds, only, Path, typedConfig, typeName, unpack } from './strict.ts';

const INTERNAL_FIELDS = [
  'name',
  'internal_listener',
  'listener_filters',
  'listener_filters_timeout',
  'continue_on_listener_filters_timeout',
  'filter_chains',
  'default_filter_chain',
  'traffic_direction',
];
const DEFAULT_INSPECT_TIMEOUT_MS = 15_000;

export function readListener(message: Message): Listener {
  const root = new Path();
  if (message.listenerSpecifier.case !== 'internalListener') {
    const address = readSocketAddress(message.address, root.at('address'));
    return readTerminateListener(message, address, root);
  }
  only(ListenerSchema, message, root, INTERNAL_FIELDS);
  const originate = readOriginate(message, root);
  if (originate !== undefined) return { kind: 'originate', name: message.name, cluster: originate };
  return {
    kind: 'chains',
    name: message.name,
    chains: message.filterChains.map((chain, index) => readChain(chain, root.at('filter_chains', index))),
    fallback: message.defaultFilterChain && readChain(message.defaultFilterChain, root.at('default_filter_chain')),
    inspects: readInspection(message, root),
    inspectTimeout: message.listenerFiltersTimeout ? milliseconds(message.listenerFiltersTimeout) : DEFAULT_INSPECT_TIMEOUT_MS,
  };
}

/** The cluster of a listener whose one chain opens tunnels to the address it was entered with; undefined for any other. */
function readOriginate(message: Message, root: Path): string | undefined {
  const [chain] = message.filterChains;
  const [filter] = chain?.filters ?? [];
  if (!chain || !filter || message.filterChains.length !== 1 || chain.filters.length !== 1) return undefined;
  const path = root.at('filter_chains', 0).at('filters', 0);
  const config = typedConfig(filter, path);
  if (typeName(config) !== TcpProxySchema.typeName) return undefined;
  const proxy = unpack(TcpProxySchema, config, path.at('typed_config'));
  if (!proxy.tunnelingConfig) return undefined;
  const at = path.at('typed_config');
  only(TcpProxySchema, proxy, at, ['stat_prefix', 'cluster', 'tunneling_config', 'access_log']);
  only(TcpProxy_TunnelingConfigSchema, proxy.tunnelingConfig, at.at('tunneling_config'), ['hostname']);
  const { hostname } = proxy.tunnelingConfig;
  if (hostname !== '%DOWNSTREAM_LOCAL_ADDRESS%')
    at.at('tunneling_config.hostname').refuse('only %DOWNSTREAM_LOCAL_ADDRESS% is supported');
  if (proxy.clusterSpecifier.case !== 'cluster') return at.refuse('needs cluster');
  return proxy.clusterSpecifier.value;
}

/** Which ports' connections are looked at. `original_dst` must be there: the destination comes from nowhere else. */
function readInspection(message: Message, root: Path): (port: number) => boolean {
  let inspects = (_port: number): boolean => false;
  for (const [index, filter] of message.listenerFilters.entries()) {
    const path = root.at('listener_filters', index);
    only(ListenerFilterSchema, filter, path, ['name', 'typed_config', 'filter_disabled']);
    const type = typeName(typedConfig(filter, path));
    if (type === HttpInspectorSchema.typeName) inspects = inspectedPorts(filter, path);
    else if (type !== OriginalDstSchema.typeName) path.refuse(`${type} is not supported`);
  }
  return inspects;
}

function inspectedPorts(filter: ListenerFilter, path: Path): (port: number) => boolean {
  if (!filter.filterDisabled) return () => true;
  const disabled = readPredicate(filter.filterDisabled, path.at('filter_disabled'));
  return (port) => !disabled(port);
}

function readPredicate(predicate: ListenerFilterChainMatchPredicate, path: Path): (port: number) => boolean {
  const { rule } = predicate;
  switch (rule.case) {
    case 'anyMatch':
      return () => true;
    case 'notMatch': {
      const test = readPredicate(rule.value, path.at('not_match'));
      return (port) => !test(port);
    }
    case 'orMatch': {
      const tests = rule.value.rules.map((part, index) => readPredicate(part, path.at('or_match.rules', index)));
      return (port) => tests.some((test) => test(port));
    }
    case 'andMatch': {
      const tests = rule.value.rules.map((part, index) => readPredicate(part, path.at('and_match.rules', index)));
      return (port) => tests.every((test) => test(port));
    }
    case 'destinationPortRange': {
      const { start, end } = rule.value;
      return (port) => port >= start && port < end;
    }
    default:
      return path.refuse('is empty');
  }
}

function readChain(message: ChainMessage, path: Path): Chain {
  only(FilterChainSchema, message, path, ['name', 'filter_chain_match', 'filters', 'metadata']);
  const filters = message.filters.map((filter, index) => {
    const at = path.at('filters', index);
    return { at: at.at('typed_config'), config: typedConfig(filter, at) };
  });
  const last = filters.pop() ?? path.at('filters').refuse('is empty');
  const connectionRbac = filters.map(({ at, config }): RbacCheck => {
    if (typeName(config) !== NetworkRbacSchema.typeName) return at.refuse(`${typeName(config)} is not supported`);
    const rbac = unpack(NetworkRbacSchema, config, at);
    only(NetworkRbacSchema, rbac, at, ['stat_prefix', 'rules']);
    return readRbac(rbac.rules, at.at('rules'));
  });
  const base = {
    name: message.name,
    match: readMatch(message, path.at('filter_chain_match')),
    identity: textAt(message.metadata, 'culvert', 'identity'),
  };
  if (typeName(last.config) === HttpConnectionManagerSchema.typeName) {
    const { rbac, ...manager } = readHttpManager(unpack(HttpConnectionManagerSchema, last.config, last.at), last.at);
    return { kind: 'http', ...base, ...manager, rbac: [...connectionRbac, ...rbac] };
  }
  const proxy = unpack(TcpProxySchema, last.config, last.at);
  only(TcpProxySchema, proxy, last.at, ['stat_prefix', 'cluster', 'access_log']);
  if (proxy.clusterSpecifier.case !== 'cluster') return last.at.refuse('needs cluster');
  return {
    kind: 'tcp',
    ...base,
    cluster: proxy.clusterSpecifier.value,
    rbac: connectionRbac,
    accessLog: readAccessLog(proxy.accessLog, last.at),
  };
}

function readMatch(message: ChainMessage, path: Path): ChainMatch {
  const match = message.filterChainMatch;
  if (!match) return { addresses: [], port: undefined, protocols: [] };
  only(FilterChainMatchSchema, match, path, ['prefix_ranges', 'destination_port', 'application_protocols']);
  return {
    addresses: match.prefixRanges.map((range, index) => ({
      test: cidrTest(range, path.at('prefix_ranges', index)),
      bits: range.prefixLen ?? 0,
    })),
    port: match.destinationPort,
    protocols: match.applicationProtocols,
  };
}

/** Whether there is a log; only the default format on standard output is supported. */
export function readAccessLog(logs: readonly AccessLog[], path: Path): boolean {
  for (const [index, log] of logs.entries()) {
    const at = path.at('access_log', index);
    if (log.filter) at.at('filter').refuse('not supported');
    const config = unpack(StdoutAccessLogSchema, typedConfig(log, at), at.at('typed_config'));
    only(StdoutAccessLogSchema, config, at.at('typed_config'), []);
  }
  return logs.length > 0;
}
