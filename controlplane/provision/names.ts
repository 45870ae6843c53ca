// Which objects belong to a Gateway's waypoint, and what they are called.
import type { Gateway } from '#shared/kube/gateway-api.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import type { ObjectView } from '../store/store.ts';
import { GATEWAY_NAME } from '../translate/waypoints.ts';

export const MANAGED_LABEL = 'gateway.istio.io/managed';
export const MANAGED_BY = 'istio.io-mesh-controller';
/** Annotation of a Gateway: run its waypoint as this service account, which somebody else owns. */
export const SERVICE_ACCOUNT = 'culvert.dev/service-account';

export const GENERATED_KINDS = ['ServiceAccount', 'Deployment', 'Service'] as const;

/** The waypoint that an object was generated for; undefined for other people's objects. */
export function gatewayOf(object: KubeObject): string | undefined {
  const { labels } = object.metadata;
  return labels?.[MANAGED_LABEL] === MANAGED_BY ? labels[GATEWAY_NAME] : undefined;
}

/**
 * The Gateway's name, as in Istio; with `-waypoint` behind it when something else has that name already: a waypoint called like
 * the application that it serves must not take the application's place.
 */
export function waypointName(gateway: Gateway, objects: ObjectView): string {
  const { name, namespace } = gateway.metadata;
  const foreign = GENERATED_KINDS.some((kind) => {
    const present = objects.get(kind, namespace, name);
    return present !== undefined && gatewayOf(present) !== name;
  });
  return foreign ? `${name}-waypoint` : name;
}
