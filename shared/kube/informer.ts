// A typed view of an ObjectSource for components that ask "which objects are there" and "what changed".
import type { Kind, KindTypes } from './kinds.ts';
import type { KubeObject, ObjectEvent, ObjectFault, ObjectSource } from './object.ts';

export class Informer {
  /** By kind, then by `namespace/name`. */
  #objects = new Map<string, Map<string, KubeObject>>();
  #listeners = new Set<(events: ObjectEvent[]) => void>();
  #faultListeners = new Set<(faults: readonly ObjectFault[]) => void>();
  #faults: readonly ObjectFault[] = [];
  #source: ObjectSource;

  constructor(source: ObjectSource) {
    this.#source = source;
  }

  /** Resolves when the complete state is there. Listeners also hear the first batch. */
  start(): Promise<void> {
    return this.#source.watch(
      (events) => this.#apply(events),
      (faults) => {
        this.#faults = faults;
        for (const listener of this.#faultListeners) listener(faults);
      },
    );
  }

  close(): void {
    this.#source.close();
  }

  get faults(): readonly ObjectFault[] {
    return this.#faults;
  }

  /** `namespace` is '' for cluster-scoped kinds. */
  get<K extends Kind>(kind: K, namespace: string, name: string): KindTypes[K] | undefined {
    return this.#objects.get(kind)?.get(`${namespace}/${name}`) as KindTypes[K] | undefined;
  }

  list<K extends Kind>(kind: K, namespace?: string): KindTypes[K][] {
    const all = [...(this.#objects.get(kind)?.values() ?? [])] as KindTypes[K][];
    return namespace === undefined ? all : all.filter((object) => object.metadata.namespace === namespace);
  }

  /** Called after the view has changed, once per batch. Returns how to stop. */
  onChange(listener: (events: ObjectEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  onFaults(listener: (faults: readonly ObjectFault[]) => void): () => void {
    this.#faultListeners.add(listener);
    return () => void this.#faultListeners.delete(listener);
  }

  #apply(events: ObjectEvent[]): void {
    for (const event of events) {
      const slash = event.key.indexOf('/');
      const kind = event.key.slice(0, slash);
      const rest = event.key.slice(slash + 1);
      const byName = this.#objects.get(kind) ?? new Map<string, KubeObject>();
      this.#objects.set(kind, byName);
      if (event.type === 'set') byName.set(rest, event.object);
      else byName.delete(rest);
    }
    for (const listener of this.#listeners) listener(events);
  }
}
