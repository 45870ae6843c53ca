// AuthorizationPolicy → istio.security.Authorization: what a ztunnel can enforce of it (facts: control plane 1.6). What it cannot
// is never ignored in the direction that opens a door: an ALLOW rule with L7 parts is dropped, a DENY rule keeps its L4 parts.
import { create } from '@bufbuild/protobuf';
import {
  Action,
  AuthorizationSchema,
  GroupSchema,
  MatchSchema,
  RulesSchema,
  Scope,
} from '#shared/gen/istio/security/authorization_pb.ts';
import type { Authorization, Group, Rules } from '#shared/gen/istio/security/authorization_pb.ts';
import type { AuthorizationPolicy, PolicyCondition, PolicyOperation, PolicyRule, PolicySource } from '#shared/kube/istio-api.ts';
import { addresses, ports, serviceAccounts, strings } from './policy-values.ts';
import type { MeshSettings } from './settings.ts';

/** `authorization` undefined: nothing of it is for ztunnels. `problem` says what has no effect there. */
export interface TranslatedPolicy {
  readonly authorization?: Authorization;
  readonly problem?: { readonly field: string; readonly reason: string };
}

const DRY_RUN = 'istio.io/dry-run';
const L7_OPERATION = ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'] as const;
const L7_SOURCE = ['remoteIpBlocks', 'notRemoteIpBlocks', 'requestPrincipals', 'notRequestPrincipals'] as const;

export function hasTarget({ spec }: AuthorizationPolicy): boolean {
  return spec?.targetRef !== undefined || (spec?.targetRefs?.length ?? 0) > 0;
}

export function translateAuthorization(policy: AuthorizationPolicy, settings: MeshSettings): TranslatedPolicy {
  const { spec = {}, metadata } = policy;
  if (hasTarget(policy)) return {};
  if (spec.action === 'CUSTOM' || spec.action === 'AUDIT')
    return {
      problem: {
        field: 'spec.action',
        reason: `ztunnel does not support ${spec.action}; the policy has no effect without targetRefs`,
      },
    };
  if (metadata.annotations?.[DRY_RUN] === 'true')
    return {
      problem: {
        field: `metadata.annotations["${DRY_RUN}"]`,
        reason: 'ztunnel does not support dry run; the policy has no effect',
      },
    };
  const action = spec.action === 'DENY' ? Action.DENY : Action.ALLOW;
  const translated = (spec.rules ?? []).map((rule) => translateRule(rule, action, metadata.namespace));
  const l7 = translated.findIndex(({ l7 }) => l7);
  const reason = `is about HTTP, which ztunnel does not see: ${action === Action.ALLOW ? 'the rule allows nothing' : 'only its L4 parts count, and a part without any never matches'}; use targetRefs and a waypoint`;
  return {
    authorization: create(AuthorizationSchema, {
      name: metadata.name,
      namespace: metadata.namespace,
      scope: scopeOf(policy, settings),
      action,
      groups: translated.map(({ group }) => group).filter((group) => group !== undefined),
    }),
    ...(l7 >= 0 && { problem: { field: `spec.rules[${l7}]`, reason } }),
  };
}

/** An empty selector selects like a label list with nothing in it: every workload of the policy's scope. */
export function hasSelector({ spec }: AuthorizationPolicy): boolean {
  return Object.keys(spec?.selector?.matchLabels ?? {}).length > 0;
}

function scopeOf(policy: AuthorizationPolicy, settings: MeshSettings): Scope {
  if (hasSelector(policy)) return Scope.WORKLOAD_SELECTOR;
  return policy.metadata.namespace === settings.rootNamespace ? Scope.GLOBAL : Scope.NAMESPACE;
}

/** `from`, `to` and each `when` are rules of one group: all must match. */
function translateRule(rule: PolicyRule, action: Action, namespace: string): { group?: Group; l7: boolean } {
  const rules: Rules[] = [];
  let l7 = false;
  const add = (matches: ReturnType<typeof sourceMatch>[]): void => {
    l7 ||= matches.some((match) => match.l7);
    rules.push(create(RulesSchema, { matches: matches.map(({ match }) => create(MatchSchema, match)) }));
  };
  if (rule.from?.length) add(rule.from.map(({ source }) => sourceMatch(source ?? {}, namespace)));
  if (rule.to?.length) add(rule.to.map(({ operation }) => operationMatch(operation ?? {})));
  for (const condition of rule.when ?? []) add([conditionMatch(condition, namespace)]);
  if (l7 && action === Action.ALLOW) return { l7 };
  return { group: create(GroupSchema, { rules }), l7 };
}

type MatchInit = Parameters<typeof create<typeof MatchSchema>>[1];

interface TranslatedMatch {
  match: MatchInit;
  /** It has parts that only a waypoint can enforce. */
  l7: boolean;
}

function sourceMatch(source: PolicySource, namespace: string): TranslatedMatch {
  const match: MatchInit = {
    namespaces: strings(source.namespaces),
    notNamespaces: strings(source.notNamespaces),
    principals: strings(source.principals),
    notPrincipals: strings(source.notPrincipals),
    sourceIps: addresses(source.ipBlocks),
    notSourceIps: addresses(source.notIpBlocks),
    serviceAccounts: serviceAccounts(source.serviceAccounts, namespace),
    notServiceAccounts: serviceAccounts(source.notServiceAccounts, namespace),
  };
  return { match, l7: L7_SOURCE.some((field) => source[field]?.length) };
}

function operationMatch(operation: PolicyOperation): TranslatedMatch {
  const match: MatchInit = { destinationPorts: ports(operation.ports), notDestinationPorts: ports(operation.notPorts) };
  return { match, l7: L7_OPERATION.some((field) => operation[field]?.length) };
}

function conditionMatch({ key, values, notValues }: PolicyCondition, namespace: string): TranslatedMatch {
  switch (key) {
    case 'source.ip':
      return { match: { sourceIps: addresses(values), notSourceIps: addresses(notValues) }, l7: false };
    case 'source.namespace':
      return { match: { namespaces: strings(values), notNamespaces: strings(notValues) }, l7: false };
    case 'source.principal':
      return { match: { principals: strings(values), notPrincipals: strings(notValues) }, l7: false };
    case 'source.serviceAccount':
      return {
        match: { serviceAccounts: serviceAccounts(values, namespace), notServiceAccounts: serviceAccounts(notValues, namespace) },
        l7: false,
      };
    case 'destination.ip':
      return { match: { destinationIps: addresses(values), notDestinationIps: addresses(notValues) }, l7: false };
    case 'destination.port':
      return { match: { destinationPorts: ports(values), notDestinationPorts: ports(notValues) }, l7: false };
    default:
      return { match: {}, l7: true };
  }
}
