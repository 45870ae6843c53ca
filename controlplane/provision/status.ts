// What a waypoint's Gateway says of itself: accepted when its class is ours, programmed while a waypoint is ready, with an address from the first time on.
import type { Gateway, GatewayStatus } from '#shared/kube/gateway-api.ts';
import type { Condition, Pod } from '#shared/kube/kinds.ts';
import type { ObjectView } from '../store/store.ts';
import { GATEWAY_NAME } from '../translate/waypoints.ts';

/** `now`: RFC 3339; a condition that does not change keeps its transition time. */
export function gatewayStatus(gateway: Gateway, host: string, objects: ObjectView, now: string): GatewayStatus {
  const ready = objects
    .list('Pod', gateway.metadata.namespace)
    .some((pod) => pod.metadata.labels?.[GATEWAY_NAME] === gateway.metadata.name && isReady(pod));
  const dialable = hasAddress(host, gateway, objects);
  const assigned = gateway.status?.addresses?.some(({ value }) => value === host) ?? false;
  const programmed = programmedCondition(ready && dialable, assigned, host);
  const conditions = [
    { type: 'Accepted', status: 'True', reason: 'Accepted', message: 'Resource accepted' },
    { type: 'Programmed', ...programmed },
  ];
  return {
    // Once given, the address stays while the waypoint has no ready pod: without it ztunnels would go straight to the workloads,
    // past the policies of the waypoint.
    addresses: dialable && (ready || assigned) ? [{ type: 'Hostname', value: host }] : [],
    conditions: conditions.map((condition) => withTransition(condition, gateway, now)),
  };
}

function programmedCondition(
  programmed: boolean,
  assigned: boolean,
  host: string,
): Pick<Condition, 'status' | 'reason' | 'message'> {
  if (programmed)
    return { status: 'True', reason: 'Programmed', message: `Resource programmed, assigned to service(s) ${host}:15008` };
  if (!assigned) return { status: 'False', reason: 'AddressNotAssigned', message: 'no waypoint pod is ready yet' };
  return { status: 'False', reason: 'NoResources', message: 'no waypoint pod is ready: what it serves is refused until one is' };
}

/** The Service has a virtual IP: without one no ztunnel could dial it. */
function hasAddress(host: string, gateway: Gateway, objects: ObjectView): boolean {
  const service = objects.get('Service', gateway.metadata.namespace, host.split('.')[0] ?? '');
  return service?.spec?.clusterIP !== undefined && service.spec.clusterIP !== '';
}

function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}

function withTransition(condition: Condition, gateway: Gateway, now: string): Condition {
  const before = gateway.status?.conditions?.find(({ type }) => type === condition.type);
  const same = before?.status === condition.status && before.lastTransitionTime !== undefined;
  const generation = gateway.metadata.generation;
  return {
    ...condition,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    lastTransitionTime: same ? (before.lastTransitionTime ?? now) : now,
  };
}
