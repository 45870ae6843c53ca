// One rule of an AuthorizationPolicy as Envoy permissions and principals. Values are OR'ed inside a field, fields are AND'ed.
// A field that this mesh cannot check throws Unsupported; the caller decides what is the safe thing then.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Permission, PermissionSchema, type Principal, PrincipalSchema } from '#shared/gen/envoy/config/rbac/v3/rbac_pb.ts';
import type { StringMatcherSchema } from '#shared/gen/envoy/type/matcher/v3/string_pb.ts';
import type { HeaderMatcherSchema } from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import type { PolicyCondition, PolicyOperation, PolicySource } from '#shared/kube/istio-api.ts';
import { canonicalIp } from '#shared/address.ts';
import { PEER_PRINCIPAL } from './names.ts';

/** `http` chains see requests; `tcp` chains only addresses and identities. */
export type Layer = 'http' | 'tcp';

/** A condition that cannot be checked on this layer or at all. */
export class Unsupported extends Error {}

type StringMatch = MessageInitShape<typeof StringMatcherSchema>;

export const anyPermission = (): Permission => create(PermissionSchema, { rule: { case: 'any', value: true } });
export const anyPrincipal = (): Principal => create(PrincipalSchema, { identifier: { case: 'any', value: true } });

/** One test of a rule: `make` builds the matcher of one value. */
interface Test<T> {
  values: readonly string[] | undefined;
  notValues: readonly string[] | undefined;
  make: (value: string) => T;
}

/** The tests that an operation holds; absent fields give none. */
export function operationPermissions(
  operation: PolicyOperation,
  layer: Layer,
  onUnsupported: (error: Unsupported) => void,
): Permission[] {
  const { hosts, notHosts, ports, notPorts, methods, notMethods, paths, notPaths } = operation;
  return tests(
    [
      {
        values: hosts,
        notValues: notHosts,
        make: (value) => httpOnly(layer, 'hosts', () => headerPermission(':authority', value, true)),
      },
      {
        values: methods,
        notValues: notMethods,
        make: (value) => httpOnly(layer, 'methods', () => headerPermission(':method', value)),
      },
      { values: paths, notValues: notPaths, make: (value) => httpOnly(layer, 'paths', () => pathPermission(value)) },
      { values: ports, notValues: notPorts, make: portPermission },
    ],
    anyOfPermissions,
    notPermission,
    onUnsupported,
  );
}

/** The tests that a source holds. */
export function sourcePrincipals(
  source: PolicySource,
  namespace: string,
  onUnsupported: (error: Unsupported) => void,
): Principal[] {
  const jwt = (): Principal => unsupported('requestPrincipals needs JWT validation');
  return tests(
    [
      { values: source.principals, notValues: source.notPrincipals, make: (value) => peer(spiffeMatch(value)) },
      { values: source.namespaces, notValues: source.notNamespaces, make: (value) => peer(namespaceMatch(value)) },
      {
        values: source.serviceAccounts,
        notValues: source.notServiceAccounts,
        make: (value) => peer(serviceAccountMatch(value, namespace)),
      },
      { values: source.ipBlocks, notValues: source.notIpBlocks, make: (value) => ipPrincipal('directRemoteIp', value) },
      { values: source.remoteIpBlocks, notValues: source.notRemoteIpBlocks, make: (value) => ipPrincipal('remoteIp', value) },
      { values: source.requestPrincipals, notValues: source.notRequestPrincipals, make: jwt },
    ],
    anyOfPrincipals,
    notPrincipal,
    onUnsupported,
  );
}

/** A `when` condition tests either what is asked for or who asks. */
export function condition(
  when: PolicyCondition,
  namespace: string,
  layer: Layer,
  onUnsupported: (error: Unsupported) => void,
): { permissions: Permission[]; principals: Principal[] } {
  const { key, values, notValues } = when;
  const permission = (make: (value: string) => Permission): { permissions: Permission[]; principals: Principal[] } => ({
    permissions: tests([{ values, notValues, make }], anyOfPermissions, notPermission, onUnsupported),
    principals: [],
  });
  const principal = (make: (value: string) => Principal): { permissions: Permission[]; principals: Principal[] } => ({
    permissions: [],
    principals: tests([{ values, notValues, make }], anyOfPrincipals, notPrincipal, onUnsupported),
  });
  const header = /^request\.headers\[(.+)\]$/u.exec(key)?.[1]?.toLowerCase();
  if (header !== undefined) return principal((value) => httpOnly(layer, key, () => headerPrincipal(header, value)));
  switch (key) {
    case 'source.ip':
      return principal((value) => ipPrincipal('directRemoteIp', value));
    case 'remote.ip':
      return principal((value) => ipPrincipal('remoteIp', value));
    case 'source.namespace':
      return principal((value) => peer(namespaceMatch(value)));
    case 'source.principal':
      return principal((value) => peer(spiffeMatch(value)));
    case 'source.serviceAccount':
      return principal((value) => peer(serviceAccountMatch(value, namespace)));
    case 'destination.ip':
      return permission((value) => create(PermissionSchema, { rule: { case: 'destinationIp', value: cidr(value) } }));
    case 'destination.port':
      return permission(portPermission);
    default:
      return permission(() => unsupported(`condition key "${key}" is not supported`));
  }
}

export function anyOfPermissions(rules: Permission[]): Permission {
  return rules[0] && rules.length === 1 ? rules[0] : create(PermissionSchema, { rule: { case: 'orRules', value: { rules } } });
}

export function anyOfPrincipals(ids: Principal[]): Principal {
  return ids[0] && ids.length === 1 ? ids[0] : create(PrincipalSchema, { identifier: { case: 'orIds', value: { ids } } });
}

function notPermission(rule: Permission): Permission {
  return create(PermissionSchema, { rule: { case: 'notRule', value: rule } });
}

function notPrincipal(id: Principal): Principal {
  return create(PrincipalSchema, { identifier: { case: 'notId', value: id } });
}

function tests<T>(
  list: readonly Test<T>[],
  anyOf: (all: T[]) => T,
  not: (one: T) => T,
  onUnsupported: (error: Unsupported) => void,
): T[] {
  const built: T[] = [];
  const add = (values: readonly string[] | undefined, make: (value: string) => T, wrap: (all: T[]) => T): void => {
    if (!values || values.length === 0) return;
    try {
      built.push(wrap(values.map(make)));
    } catch (error) {
      if (!(error instanceof Unsupported)) throw error;
      onUnsupported(error);
    }
  };
  for (const { values, notValues, make } of list) {
    add(values, make, anyOf);
    add(notValues, make, (all) => not(anyOf(all)));
  }
  return built;
}

function httpOnly<T>(layer: Layer, field: string, make: () => T): T {
  return layer === 'http' ? make() : unsupported(`${field} cannot be checked on a TCP port`);
}

function unsupported(reason: string): never {
  throw new Unsupported(reason);
}

function headerMatch(name: string, value: string, ignoreCase = false): MessageInitShape<typeof HeaderMatcherSchema> {
  return value === '*'
    ? { name, headerMatchSpecifier: { case: 'presentMatch', value: true } }
    : { name, headerMatchSpecifier: { case: 'stringMatch', value: { ...pattern(value), ignoreCase } } };
}

function headerPermission(name: string, value: string, ignoreCase = false): Permission {
  return create(PermissionSchema, { rule: { case: 'header', value: headerMatch(name, value, ignoreCase) } });
}

function headerPrincipal(name: string, value: string): Principal {
  return create(PrincipalSchema, { identifier: { case: 'header', value: headerMatch(name, value) } });
}

function pathPermission(value: string): Permission {
  const path = /\{\*\*?\}/u.test(value) ? regex(templateRegex(value)) : pattern(value);
  return create(PermissionSchema, { rule: { case: 'urlPath', value: { rule: { case: 'path', value: path } } } });
}

/** `{*}` stands for one path segment, `{**}` for any number of them. */
function templateRegex(template: string): string {
  return template
    .split(/(\{\*\*?\})/u)
    .map((part) => (part === '{*}' ? '[^/]+' : part === '{**}' ? '.*' : literal(part)))
    .join('');
}

function portPermission(value: string): Permission {
  const port = Number(value);
  if (!/^\d+$/u.test(value) || port > 65535) unsupported(`"${value}" is not a port`);
  return create(PermissionSchema, { rule: { case: 'destinationPort', value: port } });
}

function peer(match: StringMatch): Principal {
  return create(PrincipalSchema, {
    identifier: { case: 'filterState', value: { key: PEER_PRINCIPAL, matcher: { case: 'stringMatch', value: match } } },
  });
}

function ipPrincipal(kind: 'directRemoteIp' | 'remoteIp', value: string): Principal {
  return create(PrincipalSchema, { identifier: { case: kind, value: cidr(value) } });
}

function cidr(value: string): { addressPrefix: string; prefixLen: number } {
  const [address = '', length] = value.split('/');
  const ip = canonicalIp(address);
  const bits = ip?.includes(':') ? 128 : 32;
  const prefix = length === undefined ? bits : Number(length);
  if (ip === undefined || !Number.isInteger(prefix) || prefix < 0 || prefix > bits)
    unsupported(`"${value}" is not an address or CIDR`);
  return { addressPrefix: ip, prefixLen: prefix };
}

/** Principals are written without the scheme: `TRUST-DOMAIN/ns/NS/sa/SA`. */
function spiffeMatch(value: string): StringMatch {
  if (value.startsWith('*')) return pattern(value);
  return pattern(`spiffe://${value}`);
}

function namespaceMatch(value: string): StringMatch {
  return regex(`.*/ns/${wildcard(value)}/.*`);
}

function serviceAccountMatch(value: string, policyNamespace: string): StringMatch {
  const [namespace = '', account = ''] = value.includes('/') ? value.split('/') : [policyNamespace, value];
  return regex(`.*/ns/${literal(namespace)}/sa/${literal(account)}`);
}

/** `*`, `x*`, `*x` and exact. */
function pattern(value: string): StringMatch {
  if (value === '*') return regex('.+');
  if (value.startsWith('*')) return { matchPattern: { case: 'suffix', value: value.slice(1) } };
  if (value.endsWith('*')) return { matchPattern: { case: 'prefix', value: value.slice(0, -1) } };
  return { matchPattern: { case: 'exact', value } };
}

function regex(source: string): StringMatch {
  return { matchPattern: { case: 'safeRegex', value: { regex: source } } };
}

/** A namespace name with `*` at an end. */
function wildcard(value: string): string {
  return value.split('*').map(literal).join('[^/]*');
}

export function literal(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\/-]/gu, (character) =>
    character === '/' || character === '-' ? character : `\\${character}`,
  );
}
