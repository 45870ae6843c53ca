// References to nothing. Each is a fault with object, field and reason; what the object says otherwise is served.
import type { HTTPRoute, ParentReference } from '#shared/kube/gateway-api.ts';
import type { PolicyTargetReference } from '#shared/kube/istio-api.ts';
import type { Kind } from '#shared/kube/kinds.ts';
import { objectKey } from '#shared/kube/object.ts';
import type { KubeObject, ObjectFault } from '#shared/kube/object.ts';
import type { ObjectView } from '../store/store.ts';
import { selects } from './peer-authentication.ts';
import type { MeshSettings } from './settings.ts';
import { WAYPOINT_CLASSES } from './waypoint-classes.ts';
import { USE_WAYPOINT, waypointRef } from './waypoints.ts';

export type Fault = Omit<ObjectFault, 'where'>;

const NAMESPACES_OF_THEIR_OWN = ['default', 'kube-system', 'istio-system'];
const CORE = '';
const GATEWAY_GROUP = 'gateway.networking.k8s.io';

/** Faults of every object but Pods that a Deployment made: the Deployment's own are enough. */
export function findReferenceFaults(objects: ObjectView, settings: MeshSettings): Fault[] {
  const check = new ReferenceCheck(objects, settings);
  for (const namespace of objects.list('Namespace')) check.waypoint(namespace);
  for (const service of objects.list('Service')) check.namespace(service).waypoint(service);
  for (const pod of objects.list('Pod')) {
    if (pod.metadata.ownerReferences?.length) continue;
    check.namespace(pod).waypoint(pod).serviceAccount(pod, pod.spec?.serviceAccountName, 'spec.serviceAccountName');
  }
  for (const deployment of objects.list('Deployment')) {
    const name = deployment.spec?.template.spec?.serviceAccountName;
    check.namespace(deployment).serviceAccount(deployment, name, 'spec.template.spec.serviceAccountName');
    const { metadata } = deployment.spec?.template ?? {};
    check.waypoint(
      deployment,
      { ...deployment, metadata: { ...deployment.metadata, labels: metadata?.labels ?? {} } },
      'spec.template.',
    );
  }
  for (const gateway of objects.list('Gateway'))
    check.namespace(gateway).gatewayClass(gateway, gateway.spec?.gatewayClassName ?? '');
  for (const route of objects.list('HTTPRoute')) check.namespace(route).route(route);
  for (const policy of objects.list('AuthorizationPolicy')) {
    check.namespace(policy);
    const { targetRef, targetRefs = [] } = policy.spec ?? {};
    if (targetRef) check.target(policy, targetRef, 'spec.targetRef');
    for (const [index, target] of targetRefs.entries()) check.target(policy, target, `spec.targetRefs[${index}]`);
  }
  for (const peer of objects.list('PeerAuthentication')) {
    check.namespace(peer);
    if (peer.metadata.namespace === settings.rootNamespace && selects(peer))
      check.report(peer, 'spec.selector', 'has no effect in the root namespace: a policy there is for the whole mesh');
  }
  return check.faults;
}

class ReferenceCheck {
  readonly faults: Fault[] = [];
  #objects: ObjectView;
  #settings: MeshSettings;

  constructor(objects: ObjectView, settings: MeshSettings) {
    this.#objects = objects;
    this.#settings = settings;
  }

  report(object: KubeObject, field: string, reason: string): void {
    this.faults.push({ object: objectKey(object), field, reason });
  }

  namespace(object: KubeObject): this {
    const { namespace } = object.metadata;
    const exists =
      NAMESPACES_OF_THEIR_OWN.includes(namespace) ||
      namespace === this.#settings.rootNamespace ||
      this.#has('Namespace', '', namespace);
    if (!exists) this.report(object, 'metadata.namespace', `Namespace ${namespace} does not exist`);
    return this;
  }

  /** `labels` carries the labels when they stand elsewhere in the object, below `prefix`. */
  waypoint(object: KubeObject, labelled: KubeObject = object, prefix = ''): this {
    const isNamespace = object.kind === 'Namespace';
    const ref = waypointRef(labelled, undefined);
    // A namespace may name a waypoint of its own.
    const namespace = isNamespace && ref?.namespace === '' ? object.metadata.name : ref?.namespace;
    if (ref && namespace !== undefined && !this.#has('Gateway', namespace, ref.name))
      this.report(
        object,
        `${prefix}metadata.labels["${USE_WAYPOINT}"]`,
        `Gateway ${namespace}/${ref.name} does not exist; traffic goes past it`,
      );
    return this;
  }

  serviceAccount(object: KubeObject, name: string | undefined, field: string): this {
    const { namespace } = object.metadata;
    if (name !== undefined && name !== 'default' && !this.#has('ServiceAccount', namespace, name))
      this.report(object, field, `ServiceAccount ${namespace}/${name} does not exist`);
    return this;
  }

  gatewayClass(object: KubeObject, name: string): this {
    if (!WAYPOINT_CLASSES.includes(name) && !this.#has('GatewayClass', '', name))
      this.report(object, 'spec.gatewayClassName', `GatewayClass ${name} does not exist`);
    return this;
  }

  target(object: KubeObject, { group = CORE, kind, name, namespace }: PolicyTargetReference, field: string): void {
    const own = object.metadata.namespace;
    if (namespace !== undefined && namespace !== own)
      return this.report(object, `${field}.namespace`, `must be ${own}: a target is in the policy's namespace`);
    if (kind === 'GatewayClass' && group === GATEWAY_GROUP) {
      if (own !== this.#settings.rootNamespace)
        this.report(object, field, `a GatewayClass can be a target in ${this.#settings.rootNamespace} only`);
      else this.gatewayClass(object, name);
    } else this.#reference(object, { group, kind, name, namespace: own }, field);
  }

  route(route: HTTPRoute): void {
    for (const [index, ref] of (route.spec?.parentRefs ?? []).entries()) {
      const parent = { group: GATEWAY_GROUP, kind: 'Gateway', ...ref, namespace: ref.namespace ?? route.metadata.namespace };
      this.#reference(route, parent, `spec.parentRefs[${index}]`);
    }
    for (const [index, { backendRefs = [] }] of (route.spec?.rules ?? []).entries()) {
      for (const [at, ref] of backendRefs.entries()) {
        const backend = { group: CORE, kind: 'Service', ...ref, namespace: ref.namespace ?? route.metadata.namespace };
        this.#reference(route, backend, `spec.rules[${index}].backendRefs[${at}]`);
        if (backend.kind === 'Service' && ref.port === undefined)
          this.report(route, `spec.rules[${index}].backendRefs[${at}].port`, 'is required for a Service');
      }
    }
  }

  /** A Service or Gateway that must exist, with the port if one is named. */
  #reference(
    object: KubeObject,
    { group, kind, name, namespace, port }: ParentReference & { group: string; kind: string; namespace: string },
    field: string,
  ): void {
    if (kind === 'Service' && group === CORE) {
      const service = this.#objects.get('Service', namespace, name);
      if (!service) this.report(object, field, `Service ${namespace}/${name} does not exist`);
      else if (port !== undefined && !service.spec?.ports?.some((each) => each.port === port))
        this.report(object, `${field}.port`, `Service ${namespace}/${name} has no port ${port}`);
    } else if (kind === 'Gateway' && group === GATEWAY_GROUP) {
      if (!this.#has('Gateway', namespace, name)) this.report(object, field, `Gateway ${namespace}/${name} does not exist`);
    } else this.report(object, `${field}.kind`, `${group === '' ? kind : `${group}/${kind}`} cannot be referred to here`);
  }

  #has(kind: Kind, namespace: string, name: string): boolean {
    return this.#objects.get(kind, namespace, name) !== undefined;
  }
}
