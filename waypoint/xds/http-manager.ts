// HttpConnectionManager of a chain → how the chain serves requests.
import {
  type HttpConnectionManager,
  HttpConnectionManager_CodecType,
  HttpConnectionManager_ServerHeaderTransformation,
  HttpConnectionManager_UpgradeConfigSchema,
  HttpConnectionManagerSchema,
  HttpFilterSchema,
  RdsSchema,
} from '#shared/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { RBACSchema as HttpRbacSchema } from '#shared/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts';
import { RouterSchema } from '#shared/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import { readRbac } from '../filters/rbac.ts';
import type { HttpChain, RbacCheck } from '../listener/listener.ts';
import { readAccessLog } from './listeners.ts';
import { milliseconds, only, type Path, typedConfig, typeName, unpack } from './strict.ts';

const FIELDS = [
  'codec_type',
  'stat_prefix',
  'rds',
  'http_filters',
  'server_header_transformation',
  'normalize_path',
  'stream_idle_timeout',
  'upgrade_configs',
  'access_log',
];

type Manager = Pick<HttpChain, 'routes' | 'rbac' | 'accessLog' | 'normalizePath' | 'websocket'>;

export function readHttpManager(message: HttpConnectionManager, path: Path): Manager {
  only(HttpConnectionManagerSchema, message, path, FIELDS);
  const { codecType, serverHeaderTransformation: server, streamIdleTimeout } = message;
  if (codecType !== HttpConnectionManager_CodecType.AUTO) path.at('codec_type').refuse('only AUTO is supported');
  if (server !== HttpConnectionManager_ServerHeaderTransformation.PASS_THROUGH)
    path.at('server_header_transformation').refuse('only PASS_THROUGH is supported');
  if (streamIdleTimeout && milliseconds(streamIdleTimeout) !== 0) path.at('stream_idle_timeout').refuse('only 0s is supported');
  return {
    routes: readRoutesName(message, path),
    rbac: readFilters(message, path),
    accessLog: readAccessLog(message.accessLog, path),
    normalizePath: message.normalizePath ?? false,
    websocket: readUpgrades(message, path),
  };
}

function readRoutesName({ routeSpecifier }: HttpConnectionManager, path: Path): string {
  if (routeSpecifier.case !== 'rds') return path.refuse('routes must come by rds');
  only(RdsSchema, routeSpecifier.value, path.at('rds'), ['config_source', 'route_config_name']);
  const source = routeSpecifier.value.configSource?.configSourceSpecifier;
  if (source?.case !== 'ads') path.at('rds.config_source').refuse('only ads is supported');
  return routeSpecifier.value.routeConfigName;
}

/** RBAC filters, then the router. */
function readFilters({ httpFilters }: HttpConnectionManager, path: Path): RbacCheck[] {
  const checks: RbacCheck[] = [];
  for (const [index, filter] of httpFilters.entries()) {
    const at = path.at('http_filters', index);
    only(HttpFilterSchema, filter, at, ['name', 'typed_config']);
    const config = typedConfig(filter, at);
    const isLast = index === httpFilters.length - 1;
    if (typeName(config) === RouterSchema.typeName && isLast) {
      only(RouterSchema, unpack(RouterSchema, config, at), at.at('typed_config'), []);
      return checks;
    }
    if (typeName(config) !== HttpRbacSchema.typeName)
      at.refuse(`${typeName(config)} is not supported${isLast ? ' as the last filter' : ''}`);
    const rbac = unpack(HttpRbacSchema, config, at);
    only(HttpRbacSchema, rbac, at.at('typed_config'), ['rules']);
    checks.push(readRbac(rbac.rules, at.at('typed_config.rules')));
  }
  return path.at('http_filters').refuse('the router is missing');
}

function readUpgrades({ upgradeConfigs }: HttpConnectionManager, path: Path): boolean {
  for (const [index, upgrade] of upgradeConfigs.entries()) {
    const at = path.at('upgrade_configs', index);
    only(HttpConnectionManager_UpgradeConfigSchema, upgrade, at, ['upgrade_type']);
    if (upgrade.upgradeType.toLowerCase() !== 'websocket')
      at.at('upgrade_type').refuse(`"${upgrade.upgradeType}" is not supported`);
  }
  return upgradeConfigs.length > 0;
}
