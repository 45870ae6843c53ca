// What has to be translated again after a change, so that one Pod's change costs one translation.
import type { ObjectEvent } from '#shared/kube/object.ts';
import type { ObjectStore } from '../store/store.ts';
import { serviceAccountGateways } from '../translate/waypoint-binding.ts';

/** `all` or single keys `NAMESPACE/NAME`, or whole namespaces. */
export class Dirty {
  readonly keys = new Set<string>();
  readonly namespaces = new Set<string>();
  all = false;

  has(namespace: string, name: string): boolean {
    return this.all || this.namespaces.has(namespace) || this.keys.has(`${namespace}/${name}`);
  }

  get empty(): boolean {
    return !this.all && this.namespaces.size === 0 && this.keys.size === 0;
  }
}

export class DirtySets {
  readonly pods = new Dirty();
  readonly services = new Dirty();
  /** `NAMESPACE/NAME` of Gateways: whoever is bound to them. */
  readonly gateways = new Set<string>();
  policies = false;
  references = false;

  /** Called with the store as it is after the events. */
  mark(events: readonly ObjectEvent[], store: ObjectStore, rootNamespace: string): void {
    for (const event of events) {
      const [kind = '', namespace = '', name = ''] = event.key.split('/');
      const key = `${namespace}/${name}`;
      // Pods of Deployments change all the time and refer to nothing that their Deployment does not.
      this.references ||=
        kind !== 'Node' && !(kind === 'Pod' && event.type === 'set' && (event.object.metadata.ownerReferences?.length ?? 0) > 0);
      switch (kind) {
        case 'Pod':
          this.pods.keys.add(key);
          // The service accounts of its Pods bind a Service.
          if (serviceAccountGateways(store, namespace).length > 0) this.services.namespaces.add(namespace);
          break;
        case 'Service':
          this.services.keys.add(key);
          this.pods.namespaces.add(namespace);
          break;
        case 'Namespace':
          this.services.namespaces.add(name);
          this.pods.namespaces.add(name);
          break;
        case 'Node':
          for (const pod of store.podsOnNode(name)) this.pods.keys.add(pod);
          break;
        case 'Gateway':
          this.gateways.add(key);
          // What it was deployed for does not name it.
          this.services.namespaces.add(namespace);
          this.pods.namespaces.add(namespace);
          break;
        case 'GatewayClass':
          this.pods.all = true;
          this.services.all = true;
          break;
        case 'AuthorizationPolicy':
        case 'PeerAuthentication':
          this.policies = true;
          if (namespace === rootNamespace) this.pods.all = true;
          else this.pods.namespaces.add(namespace);
          break;
        default:
      }
    }
  }
}
