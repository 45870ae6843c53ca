// HTTPRoutes of one service port as an Envoy route table. Routes attach to the service (its own namespace, `port` honoured) or to
// the waypoint. Without any, the table sends everything to the service itself.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  RouteAction_ClusterNotFoundResponseCode,
  type RouteActionSchema,
  RouteSchema,
} from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import { type RouteConfiguration, RouteConfigurationSchema } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import { parseDuration } from '#shared/env.ts';
import type { HTTPBackendRef, HTTPRoute, HTTPRouteMatch, HTTPRouteRule } from '#shared/kube/gateway-api.ts';
import { objectKey } from '#shared/kube/object.ts';
import { duration } from './messages.ts';
import type { Report } from './model.ts';
import { INVALID_BACKEND } from './names.ts';
import { type HeaderChanges, pathRewrite, readFilters, redirectAction } from './route-filters.ts';
import { byAge, byPrecedence, pathPrefix, routeMatch } from './route-match.ts';

type Route = MessageInitShape<typeof RouteSchema>;
type RouteAction = MessageInitShape<typeof RouteActionSchema>;

/** Finds the cluster of a backend; undefined when there is no such service port. */
export type BackendLookup = (namespace: string, name: string, port: number) => string | undefined;

export interface RouteTableInput {
  /** Name of the chain, of the table and of the cluster that the service itself is. */
  readonly name: string;
  readonly routes: readonly HTTPRoute[];
  readonly backends: BackendLookup;
  readonly report: Report;
  /** Where requests go without a route: normally the cluster named like the chain. */
  readonly defaultCluster: string;
}

export function routeTable({ name, routes, backends, report, defaultCluster }: RouteTableInput): RouteConfiguration {
  const entries = routes.toSorted(byAge).flatMap((route) => routeEntries(route, backends, report));
  const sorted = entries.toSorted((a, b) => byPrecedence(a.match, b.match)).map((entry) => entry.route);
  const fallback: Route = {
    name: 'default',
    match: { pathSpecifier: { case: 'prefix', value: '/' } },
    action: { case: 'route', value: { clusterSpecifier: { case: 'cluster', value: defaultCluster }, timeout: duration(0) } },
  };
  return create(RouteConfigurationSchema, {
    name,
    virtualHosts: [{ name, domains: ['*'], routes: routes.length > 0 ? sorted : [fallback] }],
  });
}

interface Entry {
  match: HTTPRouteMatch;
  route: Route;
}

function routeEntries(route: HTTPRoute, backends: BackendLookup, report: Report): Entry[] {
  return (route.spec?.rules ?? []).flatMap((rule, index) => {
    const name = rule.name ?? `${route.metadata.namespace}/${route.metadata.name}.${index}`;
    const fault = (field: string, reason: string): void =>
      report({ where: 'waypoint', object: objectKey(route), field: `spec.rules[${index}]${field}`, reason });
    const matches = rule.matches && rule.matches.length > 0 ? rule.matches : [{}];
    const build = ruleAction(rule, route.metadata.namespace, backends, fault);
    return matches.map((match) => ({
      match,
      route: create(RouteSchema, { ...build(pathPrefix(match)), name, match: routeMatch(match) }),
    }));
  });
}

type Fault = (field: string, reason: string) => void;
type RuleBody = Partial<HeaderChanges> & Required<Pick<Route, 'action'>>;

/** What a rule does, as a function of the prefix that was matched. */
function ruleAction(
  rule: HTTPRouteRule,
  namespace: string,
  backends: BackendLookup,
  fault: Fault,
): (prefix: string | undefined) => RuleBody {
  const { headers, redirect, rewrite, unsupported } = readFilters(rule.filters);
  for (const type of unsupported) fault('.filters', `filter ${type} is not supported: requests that match answer 500`);
  if (rule.retry) fault('.retry', 'retries are not supported and stay off');
  if (unsupported.length > 0) return () => ({ action: answer500() });
  if (redirect) return (prefix) => ({ ...headers, action: { case: 'redirect', value: redirectAction(redirect, prefix) } });

  const target = backendTarget(rule.backendRefs ?? [], namespace, backends, fault);
  if (!target) return () => ({ ...headers, action: answer500() });
  const timeout = readTimeout(rule, fault);
  return (prefix) => ({
    ...headers,
    action: {
      case: 'route',
      value: {
        clusterSpecifier: target,
        clusterNotFoundResponseCode: RouteAction_ClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR,
        timeout: duration(timeout),
        ...pathRewrite(rewrite?.path, prefix),
        ...(rewrite?.hostname === undefined
          ? {}
          : { hostRewriteSpecifier: { case: 'hostRewriteLiteral', value: rewrite.hostname } }),
      },
    },
  });
}

function answer500(): NonNullable<Route['action']> {
  return { case: 'directResponse', value: { status: 500 } };
}

/** Undefined when no backend may get a request. */
function backendTarget(
  refs: readonly HTTPBackendRef[],
  namespace: string,
  backends: BackendLookup,
  fault: Fault,
): RouteAction['clusterSpecifier'] | undefined {
  const weighted = refs.flatMap((ref, index) => {
    const weight = ref.weight ?? 1;
    if (weight === 0) return [];
    const backendFault: Fault = (field, reason) => fault(`.backendRefs[${index}]${field}`, reason);
    const { headers, unsupported, redirect, rewrite } = readFilters(ref.filters);
    const refused = [...unsupported, ...(redirect ? ['RequestRedirect'] : []), ...(rewrite ? ['URLRewrite'] : [])];
    for (const type of refused) backendFault('.filters', `filter ${type} is not supported on a backend: its share answers 500`);
    const cluster = refused.length > 0 ? INVALID_BACKEND : backendCluster(ref, namespace, backends, backendFault);
    return [{ name: cluster, weight, ...headers }];
  });
  const [only] = weighted;
  if (!only) return undefined;
  const plain =
    only.requestHeadersToAdd.length +
      only.requestHeadersToRemove.length +
      only.responseHeadersToAdd.length +
      only.responseHeadersToRemove.length ===
    0;
  if (weighted.length === 1 && plain) return { case: 'cluster', value: only.name };
  return { case: 'weightedClusters', value: { clusters: weighted } };
}

function backendCluster(ref: HTTPBackendRef, namespace: string, backends: BackendLookup, fault: Fault): string {
  const refuse = (field: string, reason: string): string => {
    fault(field, `${reason}: its share of requests answers 500`);
    return INVALID_BACKEND;
  };
  const { group = '', kind = 'Service', port } = ref;
  if (group !== '' || kind !== 'Service')
    return refuse('.kind', `backend kind ${group === '' ? '' : `${group}/`}${kind} is not supported`);
  if (ref.namespace !== undefined && ref.namespace !== namespace) {
    return refuse('.namespace', `Service ${ref.namespace}/${ref.name} is in another namespace and nothing grants the reference`);
  }
  if (port === undefined) return refuse('.port', 'a Service backend needs a port');
  return backends(namespace, ref.name, port) ?? refuse('', `Service ${namespace}/${ref.name} has no port ${port}`);
}

/** Milliseconds; 0 is none. Without retries one attempt is the whole request, so the shorter of both limits holds. */
function readTimeout(rule: HTTPRouteRule, fault: Fault): number {
  const limits = (['request', 'backendRequest'] as const).flatMap((key) => {
    const text = rule.timeouts?.[key];
    if (text === undefined) return [];
    const ms = parseDuration(text);
    if (ms === undefined) fault(`.timeouts.${key}`, `"${text}" is not a duration: no limit holds`);
    return ms === undefined || ms === 0 ? [] : [ms];
  });
  return limits.length > 0 ? Math.min(...limits) : 0;
}
