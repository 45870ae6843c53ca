// Objects for translation tests: YAML-like literals made whole, and a store of them.
import { ObjectStore } from '../../../controlplane/store/store.ts';
import type { MeshSettings } from '../../../controlplane/translate/settings.ts';
import { objectKey } from '../../../shared/kube/object.ts';
import type { KubeObject, ObjectMeta } from '../../../shared/kube/object.ts';
import type { Gateway } from '../../../shared/kube/gateway-api.ts';
import type {
  AuthorizationPolicy,
  AuthorizationPolicySpec,
  PeerAuthentication,
  PeerAuthenticationSpec,
} from '../../../shared/kube/istio-api.ts';
import type { Namespace, Node, Pod, Service } from '../../../shared/kube/kinds.ts';

export const SETTINGS: MeshSettings = {
  trustDomain: 'cluster.local',
  clusterId: 'Kubernetes',
  clusterDomain: 'cluster.local',
  network: '',
  rootNamespace: 'culvert-system',
};

export function storeOf(...objects: KubeObject[]): ObjectStore {
  const store = new ObjectStore();
  store.apply(objects.map((object) => ({ type: 'set', key: objectKey(object), object })));
  return store;
}

type Meta = Partial<ObjectMeta>;

export function aNamespace(name: string, meta: Meta = {}): Namespace {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, namespace: '', ...meta } };
}

export function aNode(name: string, labels: Record<string, string>): Node {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, namespace: '', labels } };
}

/** Pod `a` of namespace `shop`, running and ready at 10.0.0.1. */
export function aPod(meta: Meta = {}, spec: Partial<NonNullable<Pod['spec']>> = {}, status: Pod['status'] = {}): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'a', namespace: 'shop', labels: { app: 'web' }, ...meta },
    spec: { containers: [{ name: 'app', ports: [{ name: 'http', containerPort: 8080 }] }], ...spec },
    status: { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }], conditions: [{ type: 'Ready', status: 'True' }], ...status },
  };
}

/** Service `web` of namespace `shop` at 10.96.0.1, port 80 to 8080. */
export function aService(meta: Meta = {}, spec: Partial<NonNullable<Service['spec']>> = {}): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop', ...meta },
    spec: { clusterIP: '10.96.0.1', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }], ...spec },
  };
}

/** Gateway `waypoint` of namespace `shop`, ready at 10.96.9.9. */
export function aGateway(meta: Meta = {}, spec: Partial<NonNullable<Gateway['spec']>> = {}, status?: Gateway['status']): Gateway {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name: 'waypoint', namespace: 'shop', ...meta },
    spec: { gatewayClassName: 'istio-waypoint', listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }], ...spec },
    status: status ?? { addresses: [{ type: 'IPAddress', value: '10.96.9.9' }] },
  };
}

export function aPolicy(spec: AuthorizationPolicySpec, meta: Meta = {}): AuthorizationPolicy {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'p', namespace: 'shop', ...meta },
    spec,
  };
}

export function aPeer(spec: PeerAuthenticationSpec, meta: Meta = {}): PeerAuthentication {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name: 'p', namespace: 'shop', ...meta },
    spec,
  };
}
