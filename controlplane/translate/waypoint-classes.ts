// The Gateway classes that are waypoints.
import type { Gateway } from '#shared/kube/gateway-api.ts';

/** They need no object of their own. */
export const WAYPOINT_CLASSES: readonly string[] = ['istio-waypoint', 'culvert-waypoint'];

export function isWaypointGateway(gateway: Gateway): boolean {
  return WAYPOINT_CLASSES.includes(gateway.spec?.gatewayClassName ?? '');
}
