// The filters of an HTTPRoute rule: header changes, rewrites and redirects.
import type { MessageInitShape } from '@bufbuild/protobuf';
import { HeaderValueOption_HeaderAppendAction, type HeaderValueOptionSchema } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import {
  RedirectAction_RedirectResponseCode,
  type RedirectActionSchema,
  type RouteActionSchema,
} from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import type { HTTPHeaderFilter, HTTPPathModifier, HTTPRouteFilter } from '#shared/kube/gateway-api.ts';
import { literal } from './rbac-match.ts';

type HeaderOption = MessageInitShape<typeof HeaderValueOptionSchema>;

/** The header fields that routes and weighted clusters have in common. */
export interface HeaderChanges {
  requestHeadersToAdd: HeaderOption[];
  requestHeadersToRemove: string[];
  responseHeadersToAdd: HeaderOption[];
  responseHeadersToRemove: string[];
}

/** `unsupported` names filters that cannot be honoured; the rule must then fail requests rather than serve them without. */
export interface RuleFilters {
  headers: HeaderChanges;
  redirect: HTTPRouteFilter['requestRedirect'];
  rewrite: HTTPRouteFilter['urlRewrite'];
  unsupported: string[];
}

export function readFilters(filters: readonly HTTPRouteFilter[] = []): RuleFilters {
  const read: RuleFilters = { headers: noChanges(), redirect: undefined, rewrite: undefined, unsupported: [] };
  for (const filter of filters) {
    switch (filter.type) {
      case 'RequestHeaderModifier':
        addChanges(filter.requestHeaderModifier, read.headers.requestHeadersToAdd, read.headers.requestHeadersToRemove);
        break;
      case 'ResponseHeaderModifier':
        addChanges(filter.responseHeaderModifier, read.headers.responseHeadersToAdd, read.headers.responseHeadersToRemove);
        break;
      case 'RequestRedirect':
        read.redirect = filter.requestRedirect ?? {};
        break;
      case 'URLRewrite':
        read.rewrite = filter.urlRewrite ?? {};
        break;
      case 'RequestMirror':
      case 'CORS':
      case 'ExtensionRef':
      case 'ExternalAuth':
        read.unsupported.push(filter.type);
        break;
    }
  }
  return read;
}

function noChanges(): HeaderChanges {
  return { requestHeadersToAdd: [], requestHeadersToRemove: [], responseHeadersToAdd: [], responseHeadersToRemove: [] };
}

function addChanges(change: HTTPHeaderFilter | undefined, toAdd: HeaderOption[], toRemove: string[]): void {
  const { OVERWRITE_IF_EXISTS_OR_ADD, APPEND_IF_EXISTS_OR_ADD } = HeaderValueOption_HeaderAppendAction;
  for (const { name, value } of change?.set ?? []) toAdd.push(headerOption(name, value, OVERWRITE_IF_EXISTS_OR_ADD));
  for (const { name, value } of change?.add ?? []) toAdd.push(headerOption(name, value, APPEND_IF_EXISTS_OR_ADD));
  toRemove.push(...(change?.remove ?? []));
}

/** `%` starts a command in Envoy's header values and is doubled to mean itself. */
function headerOption(key: string, value: string, appendAction: HeaderValueOption_HeaderAppendAction): HeaderOption {
  return { header: { key, value: value.replaceAll('%', '%%') }, appendAction };
}

type PathRewrite = Pick<MessageInitShape<typeof RouteActionSchema>, 'prefixRewrite' | 'regexRewrite'>;

/** `prefix` is the prefix that the rule matched, if it matched by one. */
export function pathRewrite(path: HTTPPathModifier | undefined, prefix: string | undefined): PathRewrite {
  if (!path) return {};
  if (path.type === 'ReplaceFullPath') return { regexRewrite: regexRewrite('.*', path.replaceFullPath ?? '/', '') };
  const replacement = (path.replacePrefixMatch ?? '/').replace(/\/$/u, '');
  if (prefix === undefined) return {};
  // A prefix that gives way to nothing would leave `//rest`, and one that ends in nothing no path at all.
  if (prefix === '/') return { regexRewrite: regexRewrite('^/(.*)', `${replacement}/`, '\\1') };
  if (replacement === '') return { regexRewrite: regexRewrite(`^${literal(prefix)}/?(.*)`, '/', '\\1') };
  return { prefixRewrite: replacement };
}

function regexRewrite(regex: string, text: string, groups: string): NonNullable<PathRewrite['regexRewrite']> {
  return { pattern: { regex }, substitution: text.replaceAll('\\', '\\\\') + groups };
}

const REDIRECT_CODES: Record<number, RedirectAction_RedirectResponseCode> = {
  301: RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
  302: RedirectAction_RedirectResponseCode.FOUND,
  303: RedirectAction_RedirectResponseCode.SEE_OTHER,
  307: RedirectAction_RedirectResponseCode.TEMPORARY_REDIRECT,
  308: RedirectAction_RedirectResponseCode.PERMANENT_REDIRECT,
};

export function redirectAction(
  redirect: NonNullable<HTTPRouteFilter['requestRedirect']>,
  prefix: string | undefined,
): MessageInitShape<typeof RedirectActionSchema> {
  const { scheme, hostname, port, path, statusCode = 302 } = redirect;
  return {
    ...(scheme === undefined ? {} : { schemeRewriteSpecifier: { case: 'schemeRedirect', value: scheme } as const }),
    hostRedirect: hostname ?? '',
    portRedirect: port ?? 0,
    responseCode: REDIRECT_CODES[statusCode] ?? RedirectAction_RedirectResponseCode.FOUND,
    ...redirectPath(path, prefix),
  };
}

function redirectPath(
  path: HTTPPathModifier | undefined,
  prefix: string | undefined,
): Pick<MessageInitShape<typeof RedirectActionSchema>, 'pathRewriteSpecifier'> {
  if (path?.type === 'ReplaceFullPath')
    return { pathRewriteSpecifier: { case: 'pathRedirect', value: path.replaceFullPath ?? '/' } };
  const { prefixRewrite, regexRewrite: regex } = pathRewrite(path, prefix);
  if (regex) return { pathRewriteSpecifier: { case: 'regexRewrite', value: regex } };
  return prefixRewrite === undefined ? {} : { pathRewriteSpecifier: { case: 'prefixRewrite', value: prefixRewrite } };
}
