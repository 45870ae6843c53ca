// Makes the next snapshot from the last one and what changed: only what is dirty is translated and encoded again, the rest is the
// same object as before.
import { create } from '@bufbuild/protobuf';
import { MeshError } from '#shared/errors.ts';
import { AuthorizationSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import { AddressSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Service, Workload } from '#shared/gen/istio/workload/workload_pb.ts';
import type { KindTypes } from '#shared/kube/kinds.ts';
import type { KubeObject, ObjectEvent, ObjectFault, ObjectKey } from '#shared/kube/object.ts';
import { ObjectStore } from '../store/store.ts';
import { PolicyIndex } from '../translate/policies.ts';
import { findReferenceFaults } from '../translate/references.ts';
import type { Fault } from '../translate/references.ts';
import { translateService } from '../translate/services.ts';
import type { MeshSettings } from '../translate/settings.ts';
import { boundWaypoint } from '../translate/waypoint-binding.ts';
import { canaryRef, GATEWAY_NAME } from '../translate/waypoints.ts';
import { translateWorkload } from '../translate/workloads.ts';
import { AddressIndex } from './address-index.ts';
import { DirtySets } from './dirty.ts';
import type { Dirty } from './dirty.ts';
import { encodeResource, ResourceSet } from './resource-set.ts';
import type { EncodedResource } from './resource-set.ts';
import type { Snapshot } from './snapshot.ts';

const FAILED = Symbol('not translated');

export class SnapshotBuilder {
  #settings: MeshSettings;
  #locate: (object: string) => string;
  #store = new ObjectStore();
  #dirty = new DirtySets();
  #policies: PolicyIndex;
  #references: Fault[] = [];
  #failures = new Map<ObjectKey, Fault>();
  /** Resource name by `NAMESPACE/NAME` of the object. */
  #names = { Pod: new Map<string, string>(), Service: new Map<string, string>() };
  #last: Snapshot;

  /** `locate` says where an object stands, for fault lines. */
  constructor(settings: MeshSettings, locate: (object: string) => string) {
    this.#settings = settings;
    this.#locate = locate;
    this.#policies = new PolicyIndex(this.#store, settings);
    this.#last = {
      sequence: 0,
      changed: 0,
      settings,
      addresses: ResourceSet.empty,
      authorizations: ResourceSet.empty,
      workloads: new Map(),
      services: new Map(),
      objects: this.#store.view(),
      faults: [],
    };
  }

  /** The objects as they are now, ahead of the last snapshot. */
  get store(): ObjectStore {
    return this.#store;
  }

  get last(): Snapshot {
    return this.#last;
  }

  apply(events: readonly ObjectEvent[]): void {
    this.#store.apply(events);
    this.#dirty.mark(events, this.#store, this.#settings.rootNamespace);
  }

  /** `changed`: when the first of the changes came, ms of the monotonic clock. When it throws, the next one makes up for it. */
  build(changed: number): Snapshot {
    const dirty = this.#dirty;
    const objects = this.#store.view();
    if (dirty.policies) this.#policies = new PolicyIndex(objects, this.#settings, this.#policies);
    const authorizations = dirty.policies ? this.#authorizationSet() : this.#last.authorizations;
    if (dirty.references) this.#references = findReferenceFaults(objects, this.#settings);
    if (dirty.gateways.size > 0) this.#markBound(dirty);
    const resources = new Map(this.#last.addresses.resources);
    const services = this.#translateAll('Service', dirty.services, this.#last.services, resources, (service) => {
      const message = translateService(service, objects, this.#settings);
      return message && { name: `${message.namespace}/${message.hostname}`, message, type: { case: 'service', value: message } };
    });
    const workloads = this.#translateAll('Pod', dirty.pods, this.#last.workloads, resources, (pod) => {
      const policies = this.#policies.policiesOf(pod.metadata.namespace, pod.metadata.labels);
      const message = translateWorkload(pod, policies, objects, this.#settings);
      return message && { name: message.uid, message, type: { case: 'workload', value: message } };
    });
    this.#last = {
      sequence: this.#last.sequence + 1,
      changed,
      settings: this.#settings,
      addresses: this.#addressSet(resources, workloads, services),
      authorizations,
      workloads,
      services,
      objects,
      faults: [...this.#failures.values(), ...this.#policies.faults, ...this.#references].map((fault): ObjectFault => ({
        where: this.#locate(fault.object ?? ''),
        ...fault,
      })),
    };
    this.#dirty = new DirtySets();
    return this.#last;
  }

  /** Translates what is dirty of one kind; `resources` is changed in place, the map of messages is a new one if anything changed. */
  #translateAll<K extends 'Pod' | 'Service', M extends Workload | Service>(
    kind: K,
    dirty: Dirty,
    last: ReadonlyMap<string, M>,
    resources: Map<string, EncodedResource>,
    translate: (object: KindTypes[K]) => Translated<M> | undefined,
  ): ReadonlyMap<string, M> {
    if (dirty.empty) return last;
    const messages = new Map(last);
    const names = this.#names[kind];
    for (const key of this.#keys(kind, dirty)) {
      const [namespace = '', name = ''] = key.split('/');
      const object = this.#store.get(kind, namespace, name);
      const translated = this.#attempt(`${kind}/${key}`, () => {
        const made = object && translate(object);
        return made && { ...made, encoded: encodeAddress(made, resources.get(made.name)) };
      });
      if (translated === FAILED) continue;
      const previous = names.get(key);
      if (previous !== undefined && previous !== translated?.name) {
        resources.delete(previous);
        messages.delete(previous);
        names.delete(key);
      }
      if (!translated) continue;
      if (translated.encoded === resources.get(translated.name)) continue;
      resources.set(translated.name, translated.encoded);
      messages.set(translated.name, translated.message);
      names.set(key, translated.name);
    }
    return messages;
  }

  /** An object that cannot be translated is a fault and keeps its last good state; it must not take the others with it. */
  #attempt<T>(object: ObjectKey, translate: () => T): T | typeof FAILED {
    this.#failures.delete(object);
    try {
      return translate();
    } catch (error) {
      this.#failures.set(object, { object, reason: `cannot be translated: ${MeshError.from(error).message}` });
      return FAILED;
    }
  }

  /** Dirty keys, among them those of objects that are gone. */
  #keys(kind: 'Pod' | 'Service', dirty: Dirty): Set<string> {
    const keys = new Set(dirty.keys);
    const keyOf = ({ metadata }: KubeObject): string => `${metadata.namespace}/${metadata.name}`;
    if (dirty.all) for (const object of this.#store.list(kind)) keys.add(keyOf(object));
    else
      for (const namespace of dirty.namespaces) for (const object of this.#store.list(kind, namespace)) keys.add(keyOf(object));
    return keys;
  }

  /** Objects bound to a Gateway that changed, and the Pods that serve it. */
  #markBound(dirty: DirtySets): void {
    for (const kind of ['Pod', 'Service'] as const) {
      for (const object of this.#store.list(kind)) {
        const { namespace, name, labels } = object.metadata;
        const owner = this.#store.get('Namespace', '', namespace);
        const refs = [boundWaypoint(object, this.#store), canaryRef(object, owner)].map(
          (ref) => ref && `${ref.namespace}/${ref.name}`,
        );
        const serves = labels?.[GATEWAY_NAME] !== undefined && dirty.gateways.has(`${namespace}/${labels[GATEWAY_NAME]}`);
        if (serves || refs.some((ref) => ref !== undefined && dirty.gateways.has(ref)))
          dirty[kind === 'Pod' ? 'pods' : 'services'].keys.add(`${namespace}/${name}`);
      }
    }
  }

  #addressSet(
    resources: Map<string, EncodedResource>,
    workloads: ReadonlyMap<string, Workload>,
    services: ReadonlyMap<string, Service>,
  ): ResourceSet {
    if (workloads === this.#last.workloads && services === this.#last.services) return this.#last.addresses;
    return new ResourceSet(resources, new AddressIndex(workloads, services));
  }

  #authorizationSet(): ResourceSet {
    const { resources } = this.#last.authorizations;
    return ResourceSet.of(
      this.#policies.authorizations.map((policy) => {
        const name = `${policy.namespace}/${policy.name}`;
        return encodeResource(AuthorizationSchema, name, policy, resources.get(name));
      }),
    );
  }
}

interface Translated<M> {
  name: string;
  message: M;
  type: { case: 'workload'; value: Workload } | { case: 'service'; value: Service };
}

function encodeAddress<M>({ name, type }: Translated<M>, before: EncodedResource | undefined): EncodedResource {
  return encodeResource(AddressSchema, name, create(AddressSchema, { type }), before);
}
