// What the Envoy translation reads, taken from a snapshot: the mesh as ztunnels see it, and what one waypoint serves.
import type { Service, Workload } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Gateway } from '#shared/kube/gateway-api.ts';
import type { Pod, Service as KubeService } from '#shared/kube/kinds.ts';
import type { Snapshot } from '../../snapshot/snapshot.ts';
import { hostnameOf } from '../settings.ts';
import { boundWaypoint } from '../waypoint-binding.ts';
import { admittingGateway, canaryRef, isGatewayOwn, type WaypointRef, type WaypointUse } from '../waypoints.ts';
import type { MeshView, WaypointScope } from './model.ts';

export function meshView({ services, workloads, objects, settings }: Snapshot): MeshView {
  return {
    services: [...services.values()],
    workloads: [...workloads.values()],
    routes: objects.list('HTTPRoute'),
    policies: objects.list('AuthorizationPolicy'),
    trustDomains: [settings.trustDomain],
    clusterDomain: settings.clusterDomain,
    rootNamespace: settings.rootNamespace,
  };
}

/**
 * What is bound to a Gateway, whether or not it has an address yet: a new waypoint must hold its configuration before ztunnels learn
 * its address and send it traffic.
 */
export function waypointScope(snapshot: Snapshot, gateway: Gateway): WaypointScope {
  const { objects, settings } = snapshot;
  const services: Service[] = [];
  const workloads: Workload[] = [];
  for (const service of objects.list('Service')) {
    const namespace = objects.get('Namespace', '', service.metadata.namespace);
    const refs = [boundWaypoint(service, objects), canaryRef(service, namespace)];
    if (!refs.some((ref) => leadsTo(ref, gateway, service, 'service', snapshot))) continue;
    const { name, namespace: own } = service.metadata;
    const message = snapshot.services.get(`${own}/${hostnameOf(name, own, settings)}`);
    if (message) services.push(message);
  }
  for (const pod of objects.list('Pod')) {
    if (!leadsTo(boundWaypoint(pod, objects), gateway, pod, 'workload', snapshot)) continue;
    const message = snapshot.workloads.get(`${settings.clusterId}//Pod/${pod.metadata.namespace}/${pod.metadata.name}`);
    if (message) workloads.push(message);
  }
  const { name, namespace } = gateway.metadata;
  return {
    namespace,
    name,
    className: gateway.spec?.gatewayClassName ?? '',
    services: byHost(services),
    workloads: byUid(workloads),
  };
}

function leadsTo(
  ref: WaypointRef | undefined,
  gateway: Gateway,
  object: KubeService | Pod,
  use: WaypointUse,
  snapshot: Snapshot,
): boolean {
  if (ref?.name !== gateway.metadata.name || ref.namespace !== gateway.metadata.namespace || isGatewayOwn(object)) return false;
  const { objects } = snapshot;
  const { namespace } = object.metadata;
  const from = { namespace, labels: objects.get('Namespace', '', namespace)?.metadata.labels };
  return admittingGateway(ref, use, from, objects) !== undefined;
}

function byHost(services: Service[]): Service[] {
  return services.toSorted((a, b) => (`${a.namespace}/${a.hostname}` < `${b.namespace}/${b.hostname}` ? -1 : 1));
}

function byUid(workloads: Workload[]): Workload[] {
  return workloads.toSorted((a, b) => (a.uid < b.uid ? -1 : 1));
}
