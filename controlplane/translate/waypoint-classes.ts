// The Gateway classes that are waypoints.
import type { Gateway } from '#shared/kube/gateway-api.ts';

const WAYPOINT_CLASSES: readonly string[] = ['istio-waypoint', 'culvert-waypoint'];

export function isWaypointGateway(gateway: Gateway): boolean {
  return WAYPOINT_CLASSES.includes(gateway.spec?.gatewayClassName ?? '');
}
