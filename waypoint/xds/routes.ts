// RouteConfiguration → RouteTable.
import type { HeaderValueOption } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import { HeaderValueOption_HeaderAppendAction, HeaderValueOptionSchema } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import {
  DirectResponseActionSchema,
  RedirectAction_RedirectResponseCode,
  type RedirectAction,
  RedirectActionSchema,
  type Route as RouteMessage,
  RouteAction_ClusterNotFoundResponseCode,
  type RouteAction as RouteActionMessage,
  RouteActionSchema,
  RouteSchema,
  VirtualHostSchema,
  WeightedCluster_ClusterWeightSchema,
  WeightedClusterSchema,
} from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import { type RouteConfiguration, RouteConfigurationSchema } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import type { RegexMatchAndSubstitute } from '#shared/gen/envoy/type/matcher/v3/regex_pb.ts';
import { pathOnly, type RequestHead } from '../http/request.ts';
import { requestTest } from '../route/match.ts';
import {
  type ClusterShare,
  type Edits,
  type HeaderEdit,
  NO_EDITS,
  type Route,
  type RouteAction,
  type RouteTable,
} from '../route/table.ts';
import { milliseconds, only, Path } from './strict.ts';

const EDIT_FIELDS = [
  'request_headers_to_add',
  'request_headers_to_remove',
  'response_headers_to_add',
  'response_headers_to_remove',
];
const DEFAULT_TIMEOUT_MS = 15_000;

export function readRouteTable(message: RouteConfiguration): RouteTable {
  const root = new Path();
  only(RouteConfigurationSchema, message, root, ['name', 'virtual_hosts']);
  const hosts = message.virtualHosts.map((host, index) => {
    const path = root.at('virtual_hosts', index);
    only(VirtualHostSchema, host, path, ['name', 'domains', 'routes']);
    const domains = host.domains.map((domain) => domain.toLowerCase());
    return { name: host.name, domains, routes: host.routes.map((route, at) => readRoute(route, path.at('routes', at))) };
  });
  return { name: message.name, hosts };
}

function readRoute(route: RouteMessage, path: Path): Route {
  only(RouteSchema, route, path, ['name', 'match', 'route', 'redirect', 'direct_response', ...EDIT_FIELDS]);
  return {
    name: route.name,
    matches: requestTest(route.match, path.at('match')),
    action: readAction(route, path),
    edits: readEdits(route, path),
  };
}

function readAction({ action, match }: RouteMessage, path: Path): RouteAction {
  switch (action.case) {
    case 'route':
      return readForward(action.value, matchedPrefix(match), path.at('route'));
    case 'redirect':
      return readRedirect(action.value, matchedPrefix(match), path.at('redirect'));
    case 'directResponse': {
      const at = path.at('direct_response');
      only(DirectResponseActionSchema, action.value, at, ['status', 'body']);
      const source = action.value.body?.specifier;
      if (source && source.case !== undefined && source.case !== 'inlineString')
        at.at('body').refuse('only inline_string is supported');
      return { kind: 'direct', status: action.value.status, body: source?.case === 'inlineString' ? source.value : '' };
    }
    default:
      return path.refuse('needs route, redirect or direct_response');
  }
}

/** What a prefix rewrite takes away. */
function matchedPrefix(match: RouteMessage['match']): string | undefined {
  const specifier = match?.pathSpecifier;
  return specifier?.case === 'prefix' || specifier?.case === 'pathSeparatedPrefix' || specifier?.case === 'path'
    ? specifier.value
    : undefined;
}

const FORWARD_FIELDS = [
  'cluster',
  'weighted_clusters',
  'cluster_not_found_response_code',
  'timeout',
  'prefix_rewrite',
  'regex_rewrite',
  'host_rewrite_literal',
];

function readForward(route: RouteActionMessage, prefix: string | undefined, path: Path): RouteAction {
  only(RouteActionSchema, route, path, FORWARD_FIELDS);
  const shares = readShares(route, path);
  const host = route.hostRewriteSpecifier;
  return {
    kind: 'forward',
    shares,
    totalWeight: shares.reduce((sum, share) => sum + share.weight, 0),
    rewritePath: rewriter(route.prefixRewrite, route.regexRewrite, prefix, path),
    rewriteHost: host.case === 'hostRewriteLiteral' ? host.value : undefined,
    timeout: route.timeout ? milliseconds(route.timeout) : DEFAULT_TIMEOUT_MS,
    clusterNotFound: NOT_FOUND_STATUS[route.clusterNotFoundResponseCode] ?? 503,
  };
}

const NOT_FOUND_STATUS: Record<number, number> = {
  [RouteAction_ClusterNotFoundResponseCode.SERVICE_UNAVAILABLE]: 503,
  [RouteAction_ClusterNotFoundResponseCode.NOT_FOUND]: 404,
  [RouteAction_ClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR]: 500,
};

function readShares({ clusterSpecifier }: RouteActionMessage, path: Path): ClusterShare[] {
  if (clusterSpecifier.case === 'cluster') return [{ cluster: clusterSpecifier.value, weight: 1, edits: NO_EDITS }];
  if (clusterSpecifier.case !== 'weightedClusters') return path.refuse('needs cluster or weighted_clusters');
  const at = path.at('weighted_clusters');
  only(WeightedClusterSchema, clusterSpecifier.value, at, ['clusters']);
  return clusterSpecifier.value.clusters.map((share, index) => {
    const shareAt = at.at('clusters', index);
    only(WeightedCluster_ClusterWeightSchema, share, shareAt, ['name', 'weight', ...EDIT_FIELDS]);
    return { cluster: share.name, weight: share.weight ?? 0, edits: readEdits(share, shareAt) };
  });
}

/** Path to path, the query kept. */
function rewriter(
  prefixRewrite: string,
  regex: RegexMatchAndSubstitute | undefined,
  prefix: string | undefined,
  path: Path,
): ((path: string) => string) | undefined {
  if (prefixRewrite !== '') {
    if (prefix === undefined) return path.at('prefix_rewrite').refuse('the route does not match by path or prefix');
    return (given) => prefixRewrite + given.slice(prefix.length);
  }
  if (!regex) return undefined;
  const { pattern, substitution } = regex;
  let expression: RegExp;
  try {
    expression = new RegExp(pattern?.regex ?? '', 'u');
  } catch (error) {
    return path.at('regex_rewrite').refuse(String(error));
  }
  const replacement = substitutionOf(substitution);
  return (given) => {
    const plain = pathOnly(given);
    return plain.replace(expression, (...groups: string[]) => replacement(groups)) + given.slice(plain.length);
  };
}

/** RE2 writes groups as `\1` and a backslash as `\\`. */
function substitutionOf(text: string): (groups: readonly string[]) => string {
  return (groups) => text.replaceAll(/\\([\d\\])/gu, (_, code: string) => (code === '\\' ? '\\' : (groups[Number(code)] ?? '')));
}

const REDIRECT_FIELDS = [
  'https_redirect',
  'scheme_redirect',
  'host_redirect',
  'port_redirect',
  'path_redirect',
  'prefix_rewrite',
  'regex_rewrite',
  'response_code',
  'strip_query',
];

const REDIRECT_STATUS: Record<number, number> = {
  [RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY]: 301,
  [RedirectAction_RedirectResponseCode.FOUND]: 302,
  [RedirectAction_RedirectResponseCode.SEE_OTHER]: 303,
  [RedirectAction_RedirectResponseCode.TEMPORARY_REDIRECT]: 307,
  [RedirectAction_RedirectResponseCode.PERMANENT_REDIRECT]: 308,
};

function readRedirect(redirect: RedirectAction, prefix: string | undefined, path: Path): RouteAction {
  only(RedirectActionSchema, redirect, path, REDIRECT_FIELDS);
  const {
    schemeRewriteSpecifier: schemeChange,
    hostRedirect,
    portRedirect,
    pathRewriteSpecifier: pathChange,
    stripQuery,
  } = redirect;
  const scheme = schemeChange.case === 'httpsRedirect' ? (schemeChange.value ? 'https' : undefined) : schemeChange.value;
  const newPath = redirectPath(pathChange, prefix, path);
  return {
    kind: 'redirect',
    status: REDIRECT_STATUS[redirect.responseCode] ?? 301,
    location(head) {
      const used = scheme ?? head.scheme;
      const authority = redirectAuthority(head, {
        host: hostRedirect,
        port: portRedirect,
        scheme: used,
        schemeChanged: scheme !== undefined,
      });
      const target = newPath(head.path);
      return `${used}://${authority}${stripQuery ? pathOnly(target) : target}`;
    },
  };
}

function redirectPath(
  change: RedirectAction['pathRewriteSpecifier'],
  prefix: string | undefined,
  path: Path,
): (path: string) => string {
  switch (change.case) {
    case 'pathRedirect':
      return (given) => (change.value.includes('?') ? change.value : change.value + given.slice(pathOnly(given).length));
    case 'prefixRewrite':
      return rewriter(change.value, undefined, prefix, path) ?? ((given) => given);
    case 'regexRewrite':
      return rewriter('', change.value, prefix, path) ?? ((given) => given);
    default:
      return (given) => given;
  }
}

/** The port stays unless the scheme changes and it was the default of the old one; a given port is always shown unless default. */
function redirectAuthority(
  head: RequestHead,
  to: { host: string; port: number; scheme: string; schemeChanged: boolean },
): string {
  const [, givenHost = '', givenPort] = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/u.exec(head.authority) ?? [undefined, head.authority];
  const host = to.host === '' ? givenHost : to.host;
  if (to.port !== 0) return `${host}:${to.port}`;
  const isDefault =
    (to.schemeChanged && head.scheme === 'http' && givenPort === '80') || (head.scheme === 'https' && givenPort === '443');
  if (givenPort === undefined || isDefault) return host;
  return to.host === '' ? `${host}:${givenPort}` : host;
}

interface EditFields {
  requestHeadersToAdd: HeaderValueOption[];
  requestHeadersToRemove: string[];
  responseHeadersToAdd: HeaderValueOption[];
  responseHeadersToRemove: string[];
}

function readEdits(fields: EditFields, path: Path): Edits {
  const lower = (names: readonly string[]): string[] => names.map((name) => name.toLowerCase());
  return {
    request: {
      set: fields.requestHeadersToAdd.map((option, index) => readEdit(option, path.at('request_headers_to_add', index))),
      remove: lower(fields.requestHeadersToRemove),
    },
    response: {
      set: fields.responseHeadersToAdd.map((option, index) => readEdit(option, path.at('response_headers_to_add', index))),
      remove: lower(fields.responseHeadersToRemove),
    },
  };
}

const EDIT_KINDS: Record<number, HeaderEdit['how']> = {
  [HeaderValueOption_HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD]: 'append',
  [HeaderValueOption_HeaderAppendAction.ADD_IF_ABSENT]: 'add-if-absent',
  [HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD]: 'overwrite',
  [HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS]: 'overwrite-if-exists',
};

function readEdit(option: HeaderValueOption, path: Path): HeaderEdit {
  only(HeaderValueOptionSchema, option, path, ['header', 'append_action']);
  const { key = '', value = '' } = option.header ?? {};
  if (/%[^%]/u.test(value.replaceAll('%%', '')))
    path.at('header').at('value').refuse('command operators (%...%) are not supported');
  return { name: key.toLowerCase(), value: value.replaceAll('%%', '%'), how: EDIT_KINDS[option.appendAction] ?? 'append' };
}
