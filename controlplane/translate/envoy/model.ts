// What the Envoy translation reads and what it gives. The input is the mesh as ztunnels see it (WDS messages, so both data planes
// agree on bindings, ports and endpoints) plus the L7 objects that ztunnels never get. The output is plain Envoy v3 messages.
import type { Cluster } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import type { ClusterLoadAssignment } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import type { Listener } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import type { RouteConfiguration } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import type { Service, Workload } from '#shared/gen/istio/workload/workload_pb.ts';
import type { HTTPRoute } from '#shared/kube/gateway-api.ts';
import type { AuthorizationPolicy } from '#shared/kube/istio-api.ts';
import type { ObjectFault } from '#shared/kube/object.ts';

export interface MeshView {
  readonly services: readonly Service[];
  readonly workloads: readonly Workload[];
  readonly routes: readonly HTTPRoute[];
  readonly policies: readonly AuthorizationPolicy[];
  readonly trustDomains: readonly string[];
  /** `cluster.local` */
  readonly clusterDomain: string;
  readonly rootNamespace: string;
}

/** What one waypoint serves. */
export interface WaypointScope {
  readonly namespace: string;
  readonly name: string;
  /** `istio-waypoint` or `culvert-waypoint`. */
  readonly className: string;
  /** Services whose traffic passes here. */
  readonly services: readonly Service[];
  /** Workloads whose own addresses are served here (waypoint-for workload or all). */
  readonly workloads: readonly Workload[];
}

/** Every list is sorted by name, so that equal inputs give equal bytes. */
export interface EnvoyResources {
  readonly clusters: readonly Cluster[];
  readonly endpoints: readonly ClusterLoadAssignment[];
  readonly listeners: readonly Listener[];
  readonly routes: readonly RouteConfiguration[];
  /** Parts of objects that could not be translated; what was done instead is in the reason. */
  readonly faults: readonly ObjectFault[];
}

/** Collects faults while a translation goes on. */
export type Report = (fault: ObjectFault) => void;

/** `ns/hostname`, the key of a service in WDS. */
export function serviceKey(service: { namespace: string; hostname: string }): string {
  return `${service.namespace}/${service.hostname}`;
}
