// What waypoints get: the Envoy resources of their Gateway. Made once per snapshot and Gateway, whatever the number of replicas.
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { ClusterSchema } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { ClusterLoadAssignmentSchema } from '#shared/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import type { Gateway } from '#shared/kube/gateway-api.ts';
import type { ObjectFault } from '#shared/kube/object.ts';
import { encodeResource, ResourceSet } from '../snapshot/resource-set.ts';
import type { Snapshot } from '../snapshot/snapshot.ts';
import type { EnvoyResources } from '../translate/envoy/model.ts';
import { envoyRegistry } from '../translate/envoy/registry.ts';
import { meshView, waypointScope } from '../translate/envoy/view.ts';
import { waypointResources } from '../translate/envoy/waypoint.ts';
import { isWaypointGateway } from '../translate/waypoint-classes.ts';
import { GATEWAY_NAME } from '../translate/waypoints.ts';
import type { Generator } from './generator.ts';
import type { ProxyNode } from './node.ts';
import { TYPE } from './types.ts';

export const ENVOY_TYPES = [TYPE.cluster, TYPE.endpoints, TYPE.listener, TYPE.route] as const;

/** Resource sets of one Gateway, by type URL. */
export interface EnvoySets {
  readonly sets: ReadonlyMap<string, ResourceSet>;
  readonly faults: readonly ObjectFault[];
}

export class WaypointGenerator implements Generator {
  readonly registry = envoyRegistry;
  #snapshot: Snapshot | undefined;
  #made = new Map<string, EnvoySets>();
  /** Of the snapshot before: what did not change keeps its bytes. */
  #before = new Map<string, EnvoySets>();
  /** What each connected waypoint was given last. */
  readonly #given = new WeakMap<ProxyNode, EnvoySets>();

  /**
   * A waypoint whose Gateway is deleted keeps what it has until its process ends: ztunnels hear at the same time that it goes, and what
   * they sent before must be served. A stream that begins without a Gateway gets nothing.
   */
  generate(snapshot: Snapshot, node: ProxyNode, typeUrl: string): ResourceSet {
    const gateway = gatewayOf(snapshot, node);
    if (gateway) this.#given.set(node, this.#resourcesOf(snapshot, gateway));
    return this.#given.get(node)?.sets.get(typeUrl) ?? ResourceSet.empty;
  }

  /** Of the Gateways that some waypoint has asked for in this snapshot. */
  faults(snapshot: Snapshot): readonly ObjectFault[] {
    if (snapshot !== this.#snapshot) this.#begin(snapshot);
    const waypoints = snapshot.objects.list('Gateway').filter(isWaypointGateway);
    return waypoints.flatMap((gateway) => this.#resourcesOf(snapshot, gateway).faults);
  }

  #resourcesOf(snapshot: Snapshot, gateway: Gateway): EnvoySets {
    if (snapshot !== this.#snapshot) this.#begin(snapshot);
    const key = `${gateway.metadata.namespace}/${gateway.metadata.name}`;
    const known = this.#made.get(key);
    if (known) return known;
    const resources = waypointResources(meshView(snapshot), waypointScope(snapshot, gateway));
    const sets = encodeSets(resources, this.#before.get(key)?.sets);
    this.#made.set(key, sets);
    return sets;
  }

  #begin(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    this.#before = this.#made;
    this.#made = new Map();
  }
}

/** The four sets of `resources`; what is equal to `before` keeps its version and bytes. */
export function encodeSets(resources: EnvoyResources, before?: ReadonlyMap<string, ResourceSet>): EnvoySets {
  const encode = <D extends DescMessage>(
    typeUrl: string,
    schema: D,
    messages: readonly MessageShape<D>[],
    nameOf: (message: MessageShape<D>) => string,
  ): [string, ResourceSet] => {
    const previous = before?.get(typeUrl)?.resources;
    return [
      typeUrl,
      ResourceSet.of(messages.map((message) => encodeResource(schema, nameOf(message), message, previous?.get(nameOf(message))))),
    ];
  };
  return {
    sets: new Map([
      encode(TYPE.cluster, ClusterSchema, resources.clusters, ({ name }) => name),
      encode(TYPE.endpoints, ClusterLoadAssignmentSchema, resources.endpoints, ({ clusterName }) => clusterName),
      encode(TYPE.listener, ListenerSchema, resources.listeners, ({ name }) => name),
      encode(TYPE.route, RouteConfigurationSchema, resources.routes, ({ name }) => name),
    ]),
    faults: resources.faults,
  };
}

/** The Gateway that the proxy's Pod was made for. */
function gatewayOf({ objects }: Snapshot, node: ProxyNode): Gateway | undefined {
  const pod = objects.get('Pod', node.namespace, node.podName);
  const name = pod?.metadata.labels?.[GATEWAY_NAME];
  return name === undefined ? undefined : objects.get('Gateway', node.namespace, name);
}
