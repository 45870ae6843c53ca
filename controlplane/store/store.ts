// The objects of the mesh with the indexes that translation asks for. Views are immutable per kind: a kind that did not change is
// the same in the next view.
import type { Kind, KindTypes, Pod } from '#shared/kube/kinds.ts';
import { isKind } from '#shared/kube/kinds.ts';
import type { KubeObject, ObjectEvent } from '#shared/kube/object.ts';

/** Reads only; what a snapshot carries. */
export interface ObjectView {
  get<K extends Kind>(kind: K, namespace: string, name: string): KindTypes[K] | undefined;
  /** In order of namespace and name where order matters to the reader: it does not here. */
  list<K extends Kind>(kind: K, namespace?: string): readonly KindTypes[K][];
}

type ByName = ReadonlyMap<string, KubeObject>;
type ByNamespace = ReadonlyMap<string, ByName>;

export class ObjectStore implements ObjectView {
  #kinds: ReadonlyMap<Kind, ByNamespace> = new Map();
  #podsByNode = new Map<string, Set<string>>();

  /** Copies only the namespaces and kinds that change, so that views taken before stay as they are. */
  apply(events: readonly ObjectEvent[]): void {
    const kinds = new Map<Kind, ByNamespace>(this.#kinds);
    const copied = new Map<string, Map<string, KubeObject>>();
    for (const event of events) {
      const [kind = '', namespace = '', name = ''] = event.key.split('/');
      if (!isKind(kind)) continue;
      const place = `${kind}/${namespace}`;
      let byName = copied.get(place);
      if (!byName) {
        byName = new Map(kinds.get(kind)?.get(namespace));
        copied.set(place, byName);
        kinds.set(kind, new Map(kinds.get(kind)).set(namespace, byName));
      }
      if (kind === 'Pod') this.#indexPod(`${namespace}/${name}`, byName.get(name) as Pod | undefined, event);
      if (event.type === 'set') byName.set(name, event.object);
      else byName.delete(name);
    }
    this.#kinds = kinds;
  }

  /** A view that later changes do not touch. */
  view(): ObjectView {
    return new View(this.#kinds);
  }

  get<K extends Kind>(kind: K, namespace: string, name: string): KindTypes[K] | undefined {
    return new View(this.#kinds).get(kind, namespace, name);
  }

  list<K extends Kind>(kind: K, namespace?: string): readonly KindTypes[K][] {
    return new View(this.#kinds).list(kind, namespace);
  }

  /** `namespace/name` of the Pods on a Kubernetes node. */
  podsOnNode(node: string): ReadonlySet<string> {
    return this.#podsByNode.get(node) ?? new Set();
  }

  #indexPod(key: string, before: Pod | undefined, event: ObjectEvent): void {
    const from = before?.spec?.nodeName;
    const to = event.type === 'set' ? (event.object as Pod).spec?.nodeName : undefined;
    if (from === to) return;
    if (from !== undefined) this.#podsByNode.get(from)?.delete(key);
    if (to === undefined) return;
    const pods = this.#podsByNode.get(to) ?? new Set();
    this.#podsByNode.set(to, pods.add(key));
  }
}

class View implements ObjectView {
  #kinds: ReadonlyMap<Kind, ByNamespace>;

  constructor(kinds: ReadonlyMap<Kind, ByNamespace>) {
    this.#kinds = kinds;
  }

  get<K extends Kind>(kind: K, namespace: string, name: string): KindTypes[K] | undefined {
    return this.#kinds.get(kind)?.get(namespace)?.get(name) as KindTypes[K] | undefined;
  }

  list<K extends Kind>(kind: K, namespace?: string): readonly KindTypes[K][] {
    const byNamespace = this.#kinds.get(kind);
    const maps =
      namespace === undefined
        ? [...(byNamespace?.values() ?? [])]
        : [byNamespace?.get(namespace) ?? new Map<string, KubeObject>()];
    return maps.flatMap((byName) => [...byName.values()]) as KindTypes[K][];
  }
}
