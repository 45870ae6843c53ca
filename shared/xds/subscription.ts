// What one type's subscription knows: the names asked for, the versions held, and what the present stream was told.
import { create } from '@bufbuild/protobuf';
import { DeltaDiscoveryRequestSchema } from '../gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { DeltaDiscoveryRequest, Resource } from '../gen/envoy/service/discovery/v3/discovery_pb.ts';
import { MeshError } from '../errors.ts';
import { collectGarbage } from '../lifecycle/start-memory.ts';
import type { NamedResource, Rejection, ResourceType } from './resource-type.ts';

/**
 * `wildcard`: everything the server has for this proxy. `named`: only the names. `on-demand`: named, but told to the server as a
 * wildcard that was taken back, so that it may add what it knows this proxy needs (facts: control plane 2.4).
 */
export type SubscriptionMode = 'wildcard' | 'named' | 'on-demand';

/**
 * A name of nothing, which is asked for where names are only taken back: istiod answers an on-demand request that asks for nothing by
 * removing all that the client holds.
 */
const NOTHING = 'culvert/nothing';

/** Resources of a response that are worth a collection, of some 50 ms. */
const MANY = 10_000;

/** The names wanted, as the user of the client changes them. */
export interface Subscription {
  readonly typeUrl: string;
  /** Resolves after the first response of this type was applied. */
  readonly synced: Promise<void>;
  /** How many resources are held. */
  readonly size: number;
  /** Replaces the whole set of names; only for `named` and `on-demand`. Resources of dropped names are forgotten here, unannounced. */
  setNames(names: Iterable<string>): void;
  subscribe(...names: readonly string[]): void;
  /** Subscribes, and has the server answer also for names that it was told before. */
  ask(...names: readonly string[]): void;
  unsubscribe(...names: readonly string[]): void;
}

export class TypeState<T = unknown> implements Subscription {
  readonly type: ResourceType<T>;
  readonly mode: SubscriptionMode;
  #wanted: Set<string>;
  /** Names the present stream was told; undefined before its initial request. */
  #told: Set<string> | undefined;
  /** On demand: names of what came without being asked for by them, which the server counts as told. */
  #sent = new Set<string>();
  /** Names that the server knows and that are to be asked for again. */
  #again = new Set<string>();
  /** Versions of what is in effect. A rejected resource is not in it, so it is sent again after a reconnect. */
  #versions = new Map<string, string>();
  #synced = Promise.withResolvers<void>();
  #changed: () => void;

  /** `changed` is called when `nextRequest` may have something to say. */
  constructor(type: ResourceType<T>, mode: SubscriptionMode, names: Iterable<string>, changed: () => void) {
    this.type = type;
    this.mode = mode;
    this.#wanted = new Set(names);
    this.#changed = changed;
  }

  get typeUrl(): string {
    return this.type.typeUrl;
  }

  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  get size(): number {
    return this.#versions.size;
  }

  setNames(names: Iterable<string>): void {
    if (this.mode === 'wildcard') throw new MeshError('internal', `${this.typeUrl} is a wildcard subscription; it has no names`);
    this.#wanted = new Set(names);
    for (const name of this.#versions.keys()) if (this.mode === 'named' && !this.#wanted.has(name)) this.#versions.delete(name);
    this.#changed();
  }

  subscribe(...names: readonly string[]): void {
    if (names.some((name) => !this.#wanted.has(name))) this.setNames(this.#wanted.union(new Set(names)));
  }

  ask(...names: readonly string[]): void {
    if (this.mode === 'wildcard') throw new MeshError('internal', `${this.typeUrl} is a wildcard subscription; it has no names`);
    for (const name of names) {
      this.#wanted.add(name);
      if (this.#told && (this.#told.has(name) || this.#sent.has(name))) this.#again.add(name);
    }
    this.#changed();
  }

  unsubscribe(...names: readonly string[]): void {
    if (names.some((name) => this.#wanted.has(name))) this.setNames(this.#wanted.difference(new Set(names)));
  }

  /** A new stream knows nothing yet. */
  restart(): void {
    this.#told = undefined;
    this.#sent = new Set(this.mode === 'on-demand' ? this.#versions.keys() : []);
    this.#again.clear();
  }

  /** The present stream has not heard of this type yet. */
  get fresh(): boolean {
    return this.#told === undefined;
  }

  /** What the present stream must be told now: the initial request, a change of names, or nothing. To be called until it is nothing. */
  nextRequest(): DeltaDiscoveryRequest | undefined {
    if (this.#told === undefined) return this.#initialRequest();
    if (this.#again.size > 0) return this.#takeBack(this.#told);
    const subscribe = [...this.#wanted.difference(this.#told)];
    const unsubscribe = [...this.#told.difference(this.#wanted)];
    if (subscribe.length === 0 && unsubscribe.length === 0) return undefined;
    this.#told = new Set(this.#wanted);
    return this.#change(subscribe, unsubscribe);
  }

  /** A name must be taken back before it is asked for again: istiod does not answer for one that it was told before. */
  #takeBack(told: Set<string>): DeltaDiscoveryRequest {
    const again = [...this.#again];
    this.#told = told.difference(this.#again);
    this.#again.clear();
    return this.#change([], again);
  }

  #change(subscribe: string[], unsubscribe: string[]): DeltaDiscoveryRequest {
    return create(DeltaDiscoveryRequestSchema, {
      typeUrl: this.typeUrl,
      resourceNamesSubscribe: subscribe.length === 0 && this.mode === 'on-demand' ? [NOTHING] : subscribe,
      resourceNamesUnsubscribe: unsubscribe,
    });
  }

  /** Decodes every resource of a response, then applies the good ones together. Returns how many there were, and what was rejected. */
  accept(resources: Iterable<Resource>, removed: readonly string[]): { accepted: number; rejections: Rejection[] } {
    const rejections: Rejection[] = [];
    const set: NamedResource<T>[] = [];
    try {
      for (const item of resources) {
        const decoded = this.#tryDecode(item, rejections);
        if (decoded) set.push(decoded);
      }
    } catch (unreadable) {
      this.type.discard?.();
      throw unreadable;
    }
    // What decoding left behind is room for what applying needs.
    if (set.length > MANY) collectGarbage();
    rejections.push(...this.#apply(set, removed));
    const rejected = new Set(rejections.map(({ name }) => name));
    for (const { name, version } of set) if (!rejected.has(name)) this.#versions.set(name, version);
    if (this.mode === 'on-demand') for (const { name } of set) this.#sent.add(name);
    for (const name of removed) if (!rejected.has(name)) this.#versions.delete(name);
    this.#synced.resolve();
    return { accepted: set.length, rejections };
  }

  #tryDecode(item: Resource, rejections: Rejection[]): NamedResource<T> | undefined {
    try {
      return this.#decode(item);
    } catch (error) {
      rejections.push({ name: item.name, reason: MeshError.from(error).message });
      return undefined;
    }
  }

  /** Undefined for a heartbeat: a resource without a body that is held already (its TTL is renewed). */
  #decode({ name, version, aliases, resource }: Resource): NamedResource<T> | undefined {
    if (!resource) {
      if (this.#versions.has(name)) return undefined;
      throw new MeshError('bad_request', 'the resource has no body');
    }
    if (resource.typeUrl !== this.typeUrl)
      throw new MeshError('bad_request', `the body is a ${resource.typeUrl}, not a ${this.typeUrl}`);
    const decoded = this.type.decode(resource.value, name);
    return aliases.length > 0 ? { name, version, aliases, resource: decoded } : { name, version, resource: decoded };
  }

  #apply(set: readonly NamedResource<T>[], removed: readonly string[]): readonly Rejection[] {
    try {
      return this.type.apply({ set, removed });
    } catch (error) {
      const reason = MeshError.from(error).message;
      return [...set.map(({ name }) => name), ...removed].map((name) => ({ name, reason }));
    }
  }

  #initialRequest(): DeltaDiscoveryRequest | undefined {
    // An empty list would mean everything.
    if (this.mode === 'named' && this.#wanted.size === 0) return undefined;
    this.#told = new Set(this.#wanted);
    // '' for a name that was asked for and never came: the server then says so if it does not exist (any more).
    const versions = Object.fromEntries(this.#versions);
    if (this.#versions.size > 0) for (const name of this.#wanted) versions[name] ??= '';
    const anything = this.mode === 'on-demand' ? ['*'] : [];
    return create(DeltaDiscoveryRequestSchema, {
      typeUrl: this.typeUrl,
      resourceNamesSubscribe: [...anything, ...this.#wanted],
      resourceNamesUnsubscribe: anything,
      initialResourceVersions: versions,
    });
  }
}
