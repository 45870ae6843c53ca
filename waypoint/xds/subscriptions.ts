// Listeners, clusters, endpoints and routes over delta ADS, into the store. A resource that holds something unsupported is refused
// by name and the one before it stays.
import { ClusterSchema } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { ClusterLoadAssignmentSchema } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import { MeshError } from '#shared/errors.ts';
import type { DeltaClient } from '#shared/xds/delta-client.ts';
import { type NamedResource, type Rejection, type ResourceBatch, resourceType } from '#shared/xds/resource-type.ts';
import type { Subscription } from '#shared/xds/subscription.ts';
import { readCluster } from './clusters.ts';
import type { ConfigStore } from './config-store.ts';
import { readEndpoints } from './endpoints.ts';
import { readListener } from './listeners.ts';
import { readRouteTable } from './routes.ts';
import { Path } from './strict.ts';

export interface ConfigSubscriptions {
  /** Resolves when the first listeners and clusters have come. */
  readonly synced: Promise<void>;
}

/** `onChange`: the store changed. Call before the client starts. */
export function subscribeConfig(client: DeltaClient, store: ConfigStore, onChange: () => void): ConfigSubscriptions {
  let routes: Subscription | undefined;
  let endpoints: Subscription | undefined;
  const changed = (): void => {
    endpoints?.setNames(store.endpointNames());
    routes?.setNames(store.routeNames());
    store.sweep();
    onChange();
  };
  const clusters = client.watchAll(
    resourceType(ClusterSchema, {
      keepUnknown: true,
      apply: (batch) =>
        applyBatch(
          batch,
          changed,
          (resource) => store.setCluster(readCluster(resource)),
          (name) => store.removeCluster(name),
        ),
    }),
  );
  endpoints = client.watchNamed(
    resourceType(ClusterLoadAssignmentSchema, {
      keepUnknown: true,
      apply: (batch) =>
        applyBatch(
          batch,
          onChange,
          (resource, name) => store.setEndpoints(name, readEndpoints(resource, new Path())),
          (name) => store.setEndpoints(name, []),
        ),
    }),
  );
  const listeners = client.watchAll(
    resourceType(ListenerSchema, {
      keepUnknown: true,
      apply: (batch) =>
        applyBatch(
          batch,
          changed,
          (resource) => store.setListener(readListener(resource)),
          (name) => store.removeListener(name),
        ),
    }),
  );
  routes = client.watchNamed(
    resourceType(RouteConfigurationSchema, {
      keepUnknown: true,
      apply: (batch) =>
        applyBatch(
          batch,
          onChange,
          (resource) => store.setRoutes(readRouteTable(resource)),
          (name) => store.removeRoutes(name),
        ),
    }),
  );
  return { synced: Promise.all([clusters.synced, listeners.synced]).then(() => undefined) };
}

/** Each resource alone; the bad ones are named and the rest take effect. */
function applyBatch<T>(
  batch: ResourceBatch<T>,
  changed: () => void,
  set: (resource: T, name: string) => void,
  remove: (name: string) => void,
): Rejection[] {
  const rejections: Rejection[] = [];
  const apply = ({ name, resource }: NamedResource<T>): void => {
    try {
      set(resource, name);
    } catch (error) {
      rejections.push({ name, reason: MeshError.from(error).message });
    }
  };
  batch.set.forEach(apply);
  batch.removed.forEach(remove);
  changed();
  return rejections;
}
