// What a real Envoy gets as a sidecar: the services of the mesh, made once per namespace and snapshot, and the ports of its own pod.
import { TunnelProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Snapshot } from '../snapshot/snapshot.ts';
import { ResourceSet } from '../snapshot/resource-set.ts';
import type { MeshView } from '../translate/envoy/model.ts';
import { envoyRegistry } from '../translate/envoy/registry.ts';
import type { SidecarMtls } from '../translate/envoy/sidecar-clusters.ts';
import { sidecarInbound, sidecarOutbound } from '../translate/envoy/sidecar.ts';
import { meshView } from '../translate/envoy/view.ts';
import { workloadUid } from '../translate/workloads.ts';
import type { Generator } from './generator.ts';
import type { ProxyNode } from './node.ts';
import { encodeSets, type EnvoySets } from './waypoint-generator.ts';

/** Label of a pod whose sidecar takes mTLS (facts: control plane 1.4). */
const TLS_MODE = 'security.istio.io/tlsMode';
/** Node metadata: the sidecar has the secrets `default` and `ROOTCA`, so it can speak mTLS. */
const MTLS = 'CULVERT_MTLS';

export class SidecarGenerator implements Generator {
  readonly registry = envoyRegistry;
  #snapshot: Snapshot | undefined;
  #outbound = new Map<string, EnvoySets>();
  #before = new Map<string, EnvoySets>();

  generate(snapshot: Snapshot, node: ProxyNode, typeUrl: string): ResourceSet {
    const mtls = node.metadata[MTLS] === 'true' ? [snapshot.settings.trustDomain] : undefined;
    const shared = this.#outboundOf(snapshot, node.namespace, mtls).sets.get(typeUrl) ?? ResourceSet.empty;
    const workload = snapshot.workloads.get(`${snapshot.settings.clusterId}//Pod/${node.namespace}/${node.podName}`);
    const own = encodeSets(sidecarInbound(workload, mtls)).sets.get(typeUrl) ?? ResourceSet.empty;
    return own.resources.size === 0 ? shared : new ResourceSet(new Map([...shared.resources, ...own.resources]));
  }

  #outboundOf(snapshot: Snapshot, namespace: string, mtls: SidecarMtls): EnvoySets {
    if (snapshot !== this.#snapshot) {
      this.#snapshot = snapshot;
      this.#before = this.#outbound;
      this.#outbound = new Map();
    }
    const key = `${namespace} ${mtls ? 'mtls' : 'plain'}`;
    const known = this.#outbound.get(key);
    if (known) return known;
    const sets = encodeSets(sidecarOutbound(withSidecars(snapshot), namespace, mtls), this.#before.get(key)?.sets);
    this.#outbound.set(key, sets);
    return sets;
  }
}

/** The mesh as sidecars see it: ztunnels refuse a workload that is marked as one that ends Istio's mTLS itself, sidecars need the mark. */
function withSidecars(snapshot: Snapshot): MeshView {
  const { objects, settings } = snapshot;
  const marked = new Set(
    objects
      .list('Pod')
      .filter(({ metadata }) => metadata.labels?.[TLS_MODE] === 'istio')
      .map(({ metadata }) => workloadUid(metadata.namespace, metadata.name, settings)),
  );
  const view = meshView(snapshot);
  return {
    ...view,
    workloads: view.workloads.map((workload) =>
      marked.has(workload.uid) ? { ...workload, tunnelProtocol: TunnelProtocol.LEGACY_ISTIO_MTLS } : workload,
    ),
  };
}
