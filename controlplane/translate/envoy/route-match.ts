// Gateway API matches as Envoy route matches, and the order in which they are tried. Envoy takes the first match, the Gateway API
// the most specific one, so every match of every rule becomes a route of its own and the routes are sorted.
import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type HeaderMatcherSchema,
  type QueryParameterMatcherSchema,
  type RouteMatchSchema,
} from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import type { StringMatcherSchema } from '#shared/gen/envoy/type/matcher/v3/string_pb.ts';
import type { HTTPRoute, HTTPRouteMatch, HTTPValueMatch } from '#shared/kube/gateway-api.ts';

type RouteMatch = MessageInitShape<typeof RouteMatchSchema>;

export function routeMatch(match: HTTPRouteMatch): RouteMatch {
  const headers = (match.headers ?? []).map(headerMatcher);
  if (match.method !== undefined) headers.push(headerMatcher({ name: ':method', value: match.method }));
  return { pathSpecifier: pathSpecifier(match), headers, queryParameters: (match.queryParams ?? []).map(queryMatcher) };
}

/** A prefix without its last slash: `/a/` and `/a` mean the same. */
export function pathPrefix(match: HTTPRouteMatch): string | undefined {
  const { type = 'PathPrefix', value = '/' } = match.path ?? {};
  if (type !== 'PathPrefix') return undefined;
  return value.length > 1 && value.endsWith('/') ? value.slice(0, -1) : value;
}

function pathSpecifier(match: HTTPRouteMatch): NonNullable<RouteMatch['pathSpecifier']> {
  const { type = 'PathPrefix', value = '/' } = match.path ?? {};
  if (type === 'Exact') return { case: 'path', value };
  if (type === 'RegularExpression') return { case: 'safeRegex', value: { regex: value } };
  const prefix = pathPrefix(match) ?? '/';
  return prefix === '/' ? { case: 'prefix', value: '/' } : { case: 'pathSeparatedPrefix', value: prefix };
}

function headerMatcher(match: HTTPValueMatch): MessageInitShape<typeof HeaderMatcherSchema> {
  return { name: match.name.toLowerCase(), headerMatchSpecifier: { case: 'stringMatch', value: valueMatcher(match) } };
}

function queryMatcher(match: HTTPValueMatch): MessageInitShape<typeof QueryParameterMatcherSchema> {
  return { name: match.name, queryParameterMatchSpecifier: { case: 'stringMatch', value: valueMatcher(match) } };
}

function valueMatcher({ type = 'Exact', value }: HTTPValueMatch): MessageInitShape<typeof StringMatcherSchema> {
  return { matchPattern: type === 'Exact' ? { case: 'exact', value } : { case: 'safeRegex', value: { regex: value } } };
}

/** How specific a match is; compared from the first number on, larger first. */
function rank(match: HTTPRouteMatch): readonly number[] {
  const { type = 'PathPrefix', value = '/' } = match.path ?? {};
  const kind = { Exact: 2, PathPrefix: 1, RegularExpression: 0 }[type];
  return [kind, value.length, match.method === undefined ? 0 : 1, match.headers?.length ?? 0, match.queryParams?.length ?? 0];
}

/** Sorts the most specific match first; what is equal keeps its order (older route, then name, then place in the route). */
export function byPrecedence(a: HTTPRouteMatch, b: HTTPRouteMatch): number {
  const left = rank(a);
  const right = rank(b);
  for (const [index, value] of left.entries()) {
    const difference = (right[index] ?? 0) - value;
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The older route wins; of the same age, the one whose `namespace/name` comes first. */
export function byAge(a: HTTPRoute, b: HTTPRoute): number {
  const left = `${a.metadata.creationTimestamp ?? ''} ${a.metadata.namespace}/${a.metadata.name}`;
  const right = `${b.metadata.creationTimestamp ?? ''} ${b.metadata.namespace}/${b.metadata.name}`;
  return left < right ? -1 : left > right ? 1 : 0;
}
