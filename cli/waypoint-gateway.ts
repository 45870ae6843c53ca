// The Gateway object that asks for a waypoint, as istioctl writes it.
import type { Gateway } from '#shared/kube/gateway-api.ts';
import { PORT } from '#shared/ports.ts';

export const TRAFFIC_TYPES = ['service', 'workload', 'all', 'none'] as const;
export type TrafficType = (typeof TRAFFIC_TYPES)[number];

export const WAYPOINT_CLASSES: readonly string[] = ['istio-waypoint', 'culvert-waypoint'];

/** Label of a Gateway: which traffic its waypoint takes. */
export const WAYPOINT_FOR = 'istio.io/waypoint-for';
/** Label of a namespace, service or pod: the waypoint that its traffic goes through. */
export const USE_WAYPOINT = 'istio.io/use-waypoint';
/** Annotation of a Gateway: the waypoint serves what runs as this service account, without any label. */
export const FOR_SERVICE_ACCOUNT = 'culvert.dev/for-service-account';

export interface WaypointWish {
  name: string;
  namespace: string;
  trafficType?: TrafficType | undefined;
  serviceAccount?: string | undefined;
}

export function waypointGateway({ name, namespace, trafficType, serviceAccount }: WaypointWish): Gateway {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: {
      name,
      namespace,
      ...(trafficType !== undefined && { labels: { [WAYPOINT_FOR]: trafficType } }),
      ...(serviceAccount !== undefined && { annotations: { [FOR_SERVICE_ACCOUNT]: serviceAccount } }),
    },
    spec: { gatewayClassName: 'istio-waypoint', listeners: [{ name: 'mesh', port: PORT.hbone, protocol: 'HBONE' }] },
  };
}

export function isWaypoint(gateway: Gateway): boolean {
  return WAYPOINT_CLASSES.includes(gateway.spec?.gatewayClassName ?? '');
}

/** `True`, `False`, or `Unknown` while no controller has said anything. */
export function programmed(gateway: Gateway): string {
  return gateway.status?.conditions?.find(({ type }) => type === 'Programmed')?.status ?? 'Unknown';
}
