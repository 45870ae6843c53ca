// Which routes and policies hold for a service behind a waypoint, or for the whole waypoint.
import type { Service } from '#shared/gen/istio/workload/workload_pb.ts';
import type { HTTPRoute, ParentReference } from '#shared/kube/gateway-api.ts';
import type { AuthorizationPolicy, PolicyTargetReference } from '#shared/kube/istio-api.ts';
import type { MeshView, WaypointScope } from './model.ts';

const GATEWAY_GROUP = 'gateway.networking.k8s.io';

/** Routes of one service port: attached to the service from its own namespace, or to the waypoint from the waypoint's or the service's. */
export function routesFor(mesh: MeshView, scope: WaypointScope, service: Service, port: number): HTTPRoute[] {
  return mesh.routes.filter((route) =>
    (route.spec?.parentRefs ?? []).some((parent) => attaches(route, parent, scope, service, port)),
  );
}

function attaches(route: HTTPRoute, parent: ParentReference, scope: WaypointScope, service: Service, port: number): boolean {
  const { namespace } = route.metadata;
  const parentNamespace = parent.namespace ?? namespace;
  if (isService(parent)) {
    const named = parentNamespace === service.namespace && parent.name === service.name;
    return named && namespace === service.namespace && (parent.port === undefined || parent.port === port);
  }
  if (!isGateway(parent) || parentNamespace !== scope.namespace || parent.name !== scope.name) return false;
  return namespace === scope.namespace || namespace === service.namespace;
}

function isService(ref: { group?: string; kind?: string }): boolean {
  return ref.kind === 'Service' && (ref.group ?? '') === '';
}

function isGateway(ref: { group?: string; kind?: string }): boolean {
  return (ref.kind ?? 'Gateway') === 'Gateway' && (ref.group ?? GATEWAY_GROUP) === GATEWAY_GROUP;
}

/** Policies of a chain, oldest name first: those of the class, of the waypoint and, for a service chain, of the service. */
export function policiesFor(mesh: MeshView, scope: WaypointScope, service: Service | undefined): AuthorizationPolicy[] {
  return mesh.policies
    .filter((policy) => targetsOf(policy).some((target) => holds(policy, target, mesh.rootNamespace, scope, service)))
    .toSorted((a, b) => (policyName(a) < policyName(b) ? -1 : 1));
}

function targetsOf(policy: AuthorizationPolicy): PolicyTargetReference[] {
  const { targetRef, targetRefs } = policy.spec ?? {};
  return [...(targetRef ? [targetRef] : []), ...(targetRefs ?? [])];
}

function holds(
  policy: AuthorizationPolicy,
  target: PolicyTargetReference,
  rootNamespace: string,
  scope: WaypointScope,
  service: Service | undefined,
): boolean {
  const { namespace } = policy.metadata;
  if (target.kind === 'GatewayClass') return namespace === rootNamespace && target.name === scope.className;
  if (target.kind === 'Gateway' && isGateway(target)) return namespace === scope.namespace && target.name === scope.name;
  return isService(target) && service !== undefined && namespace === service.namespace && target.name === service.name;
}

function policyName(policy: AuthorizationPolicy): string {
  return `${policy.metadata.namespace}/${policy.metadata.name}`;
}
