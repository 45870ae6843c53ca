// Listeners, clusters, endpoints and routes over delta ADS, into the store. A resource that holds something unsupported is refused
// by name and the one before it stays.
import { type DescMessage, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { MeshError } from '#shared/errors.ts';
import type { DeltaClient } from '#shared/xds/delta-client.ts';
import { type Rejection, type ResourceBatch, type ResourceType, resourceType } from '#shared/xds/resource-type.ts';
import type { Subscription } from '#shared/xds/subscription.ts';
import { type ConfigChange, type KindOf, KINDS, type ResourceKind } from './changes.ts';
import type { ConfigStore } from './config-store.ts';

export interface ConfigSubscriptions {
  /** Resolves when the first listeners and clusters have come. */
  readonly synced: Promise<void>;
}

/** `onChange`: the store has taken these. Call before the client starts. */
export function subscribeConfig(
  client: DeltaClient,
  store: ConfigStore,
  onChange: (changes: readonly ConfigChange[]) => void,
): ConfigSubscriptions {
  let routes: Subscription | undefined;
  let endpoints: Subscription | undefined;
  const changed = (changes: readonly ConfigChange[]): void => {
    endpoints?.setNames(store.endpointNames());
    routes?.setNames(store.routeNames());
    store.sweep();
    onChange(changes);
  };
  const type = <D extends DescMessage>(
    kind: ResourceKind,
    of: KindOf<D>,
    done: (changes: readonly ConfigChange[]) => void,
  ): ResourceType<MessageShape<D>> =>
    resourceType(of.schema, {
      keepUnknown: true,
      apply: (batch) => {
        const { changes, rejections } = applyBatch(kind, of, store, batch);
        done(changes);
        return rejections;
      },
    });
  const clusters = client.watchAll(type('cluster', KINDS.cluster, changed));
  endpoints = client.watchNamed(type('endpoints', KINDS.endpoints, onChange));
  const listeners = client.watchAll(type('listener', KINDS.listener, changed));
  routes = client.watchNamed(type('routes', KINDS.routes, onChange));
  return { synced: Promise.all([clusters.synced, listeners.synced]).then(() => undefined) };
}

/** Each resource alone; the bad ones are named and the rest take effect. */
function applyBatch<D extends DescMessage>(
  kind: ResourceKind,
  { schema, set, remove }: KindOf<D>,
  store: ConfigStore,
  batch: ResourceBatch<MessageShape<D>>,
): { changes: ConfigChange[]; rejections: Rejection[] } {
  const changes: ConfigChange[] = [];
  const rejections: Rejection[] = [];
  for (const { name, resource } of batch.set) {
    try {
      set(store, resource, name);
      changes.push({ kind, name, bytes: toBinary(schema, resource) });
    } catch (error) {
      rejections.push({ name, reason: MeshError.from(error).message });
    }
  }
  for (const name of batch.removed) {
    remove(store, name);
    changes.push({ kind, name, bytes: undefined });
  }
  return { changes, rejections };
}
