// AuthorizationPolicies that target a waypoint or a service as Envoy RBAC: one filter for everything that denies, then one for
// everything that allows. What cannot be checked never opens a door: such an ALLOW rule is dropped (it allows nothing), such a
// test of a DENY rule is dropped (the rule denies more), and both are reported.
import { create } from '@bufbuild/protobuf';
import { type Policy, PolicySchema, type RBAC, RBAC_Action, RBACSchema } from '#shared/gen/envoy/config/rbac/v3/rbac_pb.ts';
import type { AuthorizationPolicy, PolicyRule } from '#shared/kube/istio-api.ts';
import { objectKey } from '#shared/kube/object.ts';
import type { Report } from './model.ts';
import {
  anyPermission,
  anyPrincipal,
  anyOfPermissions,
  anyOfPrincipals,
  condition,
  type Layer,
  operationPermissions,
  sourcePrincipals,
  Unsupported,
} from './rbac-match.ts';
import { PermissionSchema, PrincipalSchema } from '#shared/gen/envoy/config/rbac/v3/rbac_pb.ts';
import type { Permission, Principal } from '#shared/gen/envoy/config/rbac/v3/rbac_pb.ts';

type Effect = 'ALLOW' | 'DENY';

/** The RBAC rule sets of a chain, in the order that they apply. */
export function rbacRules(policies: readonly AuthorizationPolicy[], layer: Layer, report: Report): RBAC[] {
  const denies: Record<string, Policy> = {};
  const allows: Record<string, Policy> = {};
  let allowing = false;
  for (const policy of policies) {
    const effect = effectOf(policy, report);
    if (effect === undefined) continue;
    if (effect === 'ALLOW') allowing = true;
    Object.assign(effect === 'DENY' ? denies : allows, translatePolicy(policy, effect, layer, report));
  }
  const sets: RBAC[] = [];
  if (Object.keys(denies).length > 0) sets.push(create(RBACSchema, { action: RBAC_Action.DENY, policies: denies }));
  // An ALLOW policy without rules allows nothing, so the filter must be there even when it is empty.
  if (allowing) sets.push(create(RBACSchema, { action: RBAC_Action.ALLOW, policies: allows }));
  return sets;
}

function effectOf(policy: AuthorizationPolicy, report: Report): Effect | undefined {
  const action = policy.spec?.action ?? 'ALLOW';
  if (action === 'ALLOW' || action === 'DENY') return action;
  const custom = action === 'CUSTOM';
  const reason = custom
    ? 'external authorization is not supported: requests that match are denied'
    : 'AUDIT is not supported and has no effect';
  report({ where: 'waypoint', object: objectKey(policy), field: 'spec.action', reason });
  return custom ? 'DENY' : undefined;
}

function translatePolicy(policy: AuthorizationPolicy, effect: Effect, layer: Layer, report: Report): Record<string, Policy> {
  const { namespace, name } = policy.metadata;
  const translated: Record<string, Policy> = {};
  for (const [index, rule] of (policy.spec?.rules ?? []).entries()) {
    let blocked = false;
    const onUnsupported = (error: Unsupported): void => {
      blocked = true;
      const done = effect === 'ALLOW' ? 'the rule allows nothing' : 'the rule denies without it';
      report({
        where: 'waypoint',
        object: objectKey(policy),
        field: `spec.rules[${index}]`,
        reason: `${error.message}: ${done}`,
      });
    };
    const built = translateRule(rule, namespace, layer, onUnsupported);
    if (effect === 'ALLOW' && blocked) continue;
    translated[`ns[${namespace}]-policy[${name}]-rule[${index}]`] = built;
  }
  return translated;
}

function translateRule(rule: PolicyRule, namespace: string, layer: Layer, onUnsupported: (error: Unsupported) => void): Policy {
  if (partsOf(rule).some(saysNothing)) onUnsupported(new Unsupported('a part that says nothing could mean anybody or nobody'));
  const operations = (rule.to ?? []).map(({ operation }) =>
    allPermissions(operationPermissions(operation ?? {}, layer, onUnsupported)),
  );
  const sources = (rule.from ?? []).map(({ source }) => allPrincipals(sourcePrincipals(source ?? {}, namespace, onUnsupported)));
  const conditions = (rule.when ?? []).map((when) => condition(when, namespace, layer, onUnsupported));
  const permissions = [
    ...(operations.length > 0 ? [anyOfPermissions(operations)] : []),
    ...conditions.flatMap((part) => part.permissions),
  ];
  const principals = [
    ...(sources.length > 0 ? [anyOfPrincipals(sources)] : []),
    ...conditions.flatMap((part) => part.principals),
  ];
  return create(PolicySchema, { permissions: [allPermissions(permissions)], principals: [allPrincipals(principals)] });
}

function allPermissions(rules: Permission[]): Permission {
  if (rules.length === 0) return anyPermission();
  return rules[0] && rules.length === 1 ? rules[0] : create(PermissionSchema, { rule: { case: 'andRules', value: { rules } } });
}

function allPrincipals(ids: Principal[]): Principal {
  if (ids.length === 0) return anyPrincipal();
  return ids[0] && ids.length === 1 ? ids[0] : create(PrincipalSchema, { identifier: { case: 'andIds', value: { ids } } });
}

function partsOf({ from = [], to = [], when = [] }: PolicyRule): object[] {
  const conditions = when.map(({ values, notValues }) => ({ values, notValues }));
  return [...from.map(({ source }) => source ?? {}), ...to.map(({ operation }) => operation ?? {}), ...conditions];
}

function saysNothing(part: object): boolean {
  return Object.values(part).every((values: readonly string[] | undefined) => !values?.length);
}
