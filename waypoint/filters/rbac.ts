// Role-based access control on requests and on connections: which callers (principals) may do what (permissions). Built from Envoy's
// RBAC rules; a DENY set refuses what matches, an ALLOW set refuses what does not.
import {
  type Permission,
  PermissionSchema,
  PolicySchema,
  type Principal,
  PrincipalSchema,
  type RBAC,
  RBAC_Action,
  RBACSchema,
} from '#shared/gen/envoy/config/rbac/v3/rbac_pb.ts';
import type { CidrRange } from '#shared/gen/envoy/config/core/v3/address_pb.ts';
import { FilterStateMatcherSchema } from '#shared/gen/envoy/type/matcher/v3/filter_state_pb.ts';
import { ipToBytes } from '#shared/address.ts';
import { type ConnectionInfo, pathOnly, type RequestHead } from '../http/request.ts';
import { headerTest, stringTest } from '../xds/string-match.ts';
import { only, type Path } from '../xds/strict.ts';
import { allOf, anyOf, type Condition, type HeadTest, not, ofHead } from './condition.ts';

/** What a rule looks at. `head` is missing on TCP chains, where header and path tests match nothing. */
export interface Subject {
  readonly connection: ConnectionInfo;
  readonly head: RequestHead | undefined;
}

export interface Verdict {
  readonly allowed: boolean;
  /** The policy that decided; `none` when no ALLOW policy matched. */
  readonly policy: string;
}

/** Filter state of a connection by the names that Istio's configuration uses. */
const FILTER_STATE: Record<string, (connection: ConnectionInfo) => string> = {
  'io.istio.peer_principal': (connection) => connection.peer,
  'io.istio.local_principal': (connection) => connection.local,
};

export function readRbac(rules: RBAC | undefined, path: Path): (subject: Subject) => Verdict {
  if (!rules) return path.refuse('is missing');
  only(RBACSchema, rules, path, ['action', 'policies']);
  if (rules.action === RBAC_Action.LOG) path.at('action').refuse('LOG is not supported');
  const policies = Object.entries(rules.policies).map(([name, policy]): ReadPolicy => {
    const at = path.at(`policies["${name}"]`);
    only(PolicySchema, policy, at, ['permissions', 'principals']);
    const permissions = policy.permissions.map((permission, index) => readPermission(permission, at.at('permissions', index)));
    const principals = policy.principals.map((principal, index) => readPrincipal(principal, at.at('principals', index)));
    return { name, condition: allOf([anyOf(permissions), anyOf(principals)]) };
  });
  const onMatch = rules.action === RBAC_Action.ALLOW;
  const kept = new WeakMap<ConnectionInfo, Left>();
  return ({ connection, head }) => {
    let left = kept.get(connection);
    if (!left) {
      left = leftOf(policies, connection);
      kept.set(connection, left);
    }
    for (const { name, test } of left.policies) if (test === true || test(head)) return { allowed: onMatch, policy: name };
    for (let at = left.end; at < policies.length; at += 1) {
      const policy = policies[at];
      const test = policy?.condition(connection) ?? false;
      if (policy && (test === true || (test !== false && test(head)))) return { allowed: onMatch, policy: policy.name };
    }
    return { allowed: !onMatch, policy: 'none' };
  };
}

interface ReadPolicy {
  readonly name: string;
  readonly condition: Condition;
}

/** What is left to ask of the requests of a connection. */
interface Left {
  /** Those that the connection alone does not rule out, in their order. */
  readonly policies: readonly { readonly name: string; readonly test: true | HeadTest }[];
  /** Where those begin that were not looked at. */
  readonly end: number;
}

/** What is remembered for a connection, policies: some 40 bytes each. Those behind them are looked at for each request. */
const MAX_KEPT = 100;

/** Behind a policy that holds for every request nobody looks. */
function leftOf(all: readonly ReadPolicy[], connection: ConnectionInfo): Left {
  const policies: { name: string; test: true | HeadTest }[] = [];
  for (const [index, { name, condition }] of all.entries()) {
    if (policies.length === MAX_KEPT) return { policies, end: index };
    const test = condition(connection);
    if (test === false) continue;
    policies.push({ name, test });
    if (test === true) break;
  }
  return { policies, end: all.length };
}

function readPermission(permission: Permission, path: Path): Condition {
  const supported = ['and_rules', 'or_rules', 'any', 'header', 'url_path', 'destination_ip', 'destination_port', 'not_rule'];
  only(PermissionSchema, permission, path, supported);
  const { rule } = permission;
  switch (rule.case) {
    case 'andRules':
      return allOf(rule.value.rules.map((part, index) => readPermission(part, path.at('and_rules.rules', index))));
    case 'orRules':
      return anyOf(rule.value.rules.map((part, index) => readPermission(part, path.at('or_rules.rules', index))));
    case 'notRule':
      return not(readPermission(rule.value, path.at('not_rule')));
    case 'any':
      return () => true;
    case 'header':
      return ofHead(headerTest(rule.value, path.at('header')));
    case 'urlPath':
      return onPath(stringTest(rule.value.rule.value, path.at('url_path.path')));
    case 'destinationIp': {
      const test = cidrTest(rule.value, path.at('destination_ip'));
      return (connection) => test(connection.destination.ip);
    }
    case 'destinationPort': {
      const port = rule.value;
      return (connection) => connection.destination.port === port;
    }
    default:
      return path.refuse('is empty');
  }
}

function readPrincipal(principal: Principal, path: Path): Condition {
  const supported = ['and_ids', 'or_ids', 'any', 'header', 'url_path', 'direct_remote_ip', 'remote_ip', 'filter_state', 'not_id'];
  only(PrincipalSchema, principal, path, supported);
  const { identifier } = principal;
  switch (identifier.case) {
    case 'andIds':
      return allOf(identifier.value.ids.map((part, index) => readPrincipal(part, path.at('and_ids.ids', index))));
    case 'orIds':
      return anyOf(identifier.value.ids.map((part, index) => readPrincipal(part, path.at('or_ids.ids', index))));
    case 'notId':
      return not(readPrincipal(identifier.value, path.at('not_id')));
    case 'any':
      return () => true;
    case 'header':
      return ofHead(headerTest(identifier.value, path.at('header')));
    case 'urlPath':
      return onPath(stringTest(identifier.value.rule.value, path.at('url_path.path')));
    // Without trusted hops the address of the client is the address of the connection.
    case 'directRemoteIp':
    case 'remoteIp': {
      const test = cidrTest(identifier.value, path.at('direct_remote_ip'));
      return (connection) => test(connection.remote.ip);
    }
    case 'filterState': {
      const at = path.at('filter_state');
      only(FilterStateMatcherSchema, identifier.value, at, ['key', 'string_match']);
      const read = FILTER_STATE[identifier.value.key] ?? at.at('key').refuse(`"${identifier.value.key}" is not known`);
      const test = stringTest(identifier.value.matcher.value, at.at('string_match'));
      return (connection) => test(read(connection));
    }
    default:
      return path.refuse('is empty');
  }
}

function onPath(test: (value: string) => boolean): Condition {
  return ofHead((head) => test(pathOnly(head.path)));
}

export function cidrTest(range: CidrRange, path: Path): (ip: string) => boolean {
  const prefix = ipToBytes(range.addressPrefix) ?? path.refuse(`"${range.addressPrefix}" is not an address`);
  const bits = range.prefixLen ?? 0;
  if (bits > prefix.length * 8) path.refuse(`a prefix of ${bits} bits does not fit ${range.addressPrefix}`);
  const whole = bits >> 3;
  const mask = 0xff & ~(0xff >> (bits & 7));
  return (ip) => {
    const address = ipToBytes(ip);
    if (address?.length !== prefix.length) return false;
    for (let index = 0; index < whole; index += 1) if (address[index] !== prefix[index]) return false;
    return (bits & 7) === 0 || ((address[whole] ?? 0) & mask) === ((prefix[whole] ?? 0) & mask);
  };
}
