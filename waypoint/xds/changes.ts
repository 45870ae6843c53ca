// Changes of the configuration, as the control plane sends them: the main thread checks each and passes on the accepted ones, data workers
// take those as they come. Each thread makes its own routes and clusters of them, so that none waits for another.
import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf';
import { ClusterSchema } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { ClusterLoadAssignmentSchema } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import { readCluster } from './clusters.ts';
import type { ConfigStore } from './config-store.ts';
import { readEndpoints } from './endpoints.ts';
import { readListener } from './listeners.ts';
import { readRouteTable } from './routes.ts';
import { Path } from './strict.ts';

export type ResourceKind = 'cluster' | 'endpoints' | 'listener' | 'routes';

/** Plain values that survive structured clone. */
export interface ConfigChange {
  readonly kind: ResourceKind;
  readonly name: string;
  /** Undefined: it is gone. */
  readonly bytes: Uint8Array | undefined;
}

export interface KindOf<D extends DescMessage> {
  readonly schema: D;
  /** Throws what is wrong with it. */
  readonly set: (store: ConfigStore, resource: MessageShape<D>, name: string) => void;
  readonly remove: (store: ConfigStore, name: string) => void;
}

function kindOf<D extends DescMessage>(kind: KindOf<D>): KindOf<D> {
  return kind;
}

/** What the store does with each. */
export const KINDS = {
  cluster: kindOf({
    schema: ClusterSchema,
    set: (store, resource) => store.setCluster(readCluster(resource)),
    remove: (store, name) => store.removeCluster(name),
  }),
  listener: kindOf({
    schema: ListenerSchema,
    set: (store, resource) => store.setListener(readListener(resource)),
    remove: (store, name) => store.removeListener(name),
  }),
  endpoints: kindOf({
    schema: ClusterLoadAssignmentSchema,
    set: (store, resource, name) => store.setEndpoints(name, readEndpoints(resource, new Path())),
    remove: (store, name) => store.setEndpoints(name, []),
  }),
  routes: kindOf({
    schema: RouteConfigurationSchema,
    set: (store, resource) => store.setRoutes(readRouteTable(resource)),
    remove: (store, name) => store.removeRoutes(name),
  }),
} as const;

/** In a worker: they were accepted. */
export function applyChanges(store: ConfigStore, changes: readonly ConfigChange[]): void {
  for (const { kind, name, bytes } of changes) {
    const { schema, set, remove } = KINDS[kind] as KindOf<DescMessage>;
    if (bytes) set(store, fromBinary(schema, bytes), name);
    else remove(store, name);
  }
  if (changes.some(({ kind }) => kind === 'cluster' || kind === 'listener')) store.sweep();
}

/** The newest of each resource, for workers that start later. While a listener waits for its routes, such a worker has none of its name. */
export class ConfigLog {
  readonly #kinds: Readonly<Record<ResourceKind, Map<string, ConfigChange>>> = {
    cluster: new Map(),
    listener: new Map(),
    endpoints: new Map(),
    routes: new Map(),
  };

  add(changes: readonly ConfigChange[]): void {
    for (const change of changes) {
      const known = this.#kinds[change.kind];
      if (change.bytes || change.kind === 'endpoints') known.set(change.name, change);
      else known.delete(change.name);
    }
  }

  /** Forgets what the store has swept. */
  keep(store: ConfigStore): void {
    const [endpoints, routes] = [store.endpointNames(), store.routeNames()];
    for (const name of this.#kinds.endpoints.keys()) if (!endpoints.has(name)) this.#kinds.endpoints.delete(name);
    for (const name of this.#kinds.routes.keys()) if (!routes.has(name)) this.#kinds.routes.delete(name);
  }

  /** All of it, in an order in which nothing is swept before it is referred to. */
  all(): ConfigChange[] {
    return Object.values(this.#kinds).flatMap((changes) => [...changes.values()]);
  }
}
