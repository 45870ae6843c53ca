// Delta ADS: the client adds and takes away names, and is sent what changed and what is gone (facts: control plane 2.4).
import { create, toBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import { DeltaDiscoveryResponseSchema } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { ResourceDiff, ResourceSet } from '../snapshot/resource-set.ts';
import { RpcError } from './rpc-error.ts';
import { MAX_NAME_CHARACTERS, MAX_NAMES, Subscription } from './subscription.ts';
import type { AdsRequest, AdsResponse } from './subscription.ts';

export class DeltaSubscription extends Subscription {
  readonly #node: string;
  #started = false;
  #wildcard = false;
  #names = new Set<string>();
  /** Their length together. */
  #characters = 0;
  /** Names that were added since the last response: each gets an answer, be it that there is no such thing. */
  #added = new Set<string>();
  /** A wildcard's state is the set that it was sent, whole: no copy of names and versions per client. */
  #sentSet: ResourceSet | undefined;
  /** Versions that the client has: of named resources, and of all that a reconnecting one told of. */
  #versions = new Map<string, string>();
  #forgotten = new Set<string>();

  /** `node` is the Kubernetes node of the proxy, '' when it did not tell. */
  constructor(typeUrl: string, node = '') {
    super(typeUrl);
    this.#node = node;
  }

  protected change(request: AdsRequest): boolean {
    const { names, unsubscribe, initialVersions } = request;
    let asked = names.length > 0;
    if (!this.#started) {
      this.#started = true;
      asked = true;
      this.#wildcard = names.length === 0;
      this.#versions = new Map(Object.entries(initialVersions));
    }
    for (const name of names) {
      if (name === '*') this.#wildcard = true;
      else {
        if (!this.#names.has(name)) this.#characters += name.length;
        this.#names.add(name);
        this.#added.add(name);
        // Who subscribes again wants to be told again.
        this.#versions.delete(name);
      }
    }
    for (const name of unsubscribe) {
      if (name === '*') this.#wildcard = false;
      if (this.#names.delete(name)) this.#characters -= name.length;
      this.#added.delete(name);
      this.#versions.delete(name);
    }
    if (this.#names.size > MAX_NAMES || this.#characters > MAX_NAME_CHARACTERS)
      throw new RpcError(
        status.RESOURCE_EXHAUSTED,
        `more than ${MAX_NAMES} names of ${this.typeUrl}, or ${MAX_NAME_CHARACTERS} characters of them`,
      );
    return asked;
  }

  protected encode(set: ResourceSet, nonce: string, owed: boolean): AdsResponse | undefined {
    const { changed, removed } = this.#wildcard ? this.#diffAll(set) : this.#diffNamed(set);
    this.#forgotten.clear();
    this.#added.clear();
    if (changed.length === 0 && removed.length === 0 && !owed) return undefined;
    const head = toBinary(
      DeltaDiscoveryResponseSchema,
      create(DeltaDiscoveryResponseSchema, { typeUrl: this.typeUrl, nonce, removedResources: [...removed] }),
    );
    const bytes = Buffer.concat([head, ...changed.map(({ deltaFrame }) => deltaFrame)]);
    return { bytes, names: changed.map(({ name }) => name), removed: removed.length };
  }

  forget(names: readonly string[]): void {
    for (const name of names) {
      this.#versions.delete(name);
      this.#forgotten.add(name);
    }
  }

  #diffAll(set: ResourceSet): ResourceDiff {
    const sent = this.#sentSet;
    this.#sentSet = set;
    if (!sent) {
      const versions = this.#versions;
      this.#versions = new Map();
      const changed = [...set.resources.values()].filter(({ name, version }) => versions.get(name) !== version);
      return { changed, removed: [...versions.keys()].filter((name) => !set.resources.has(name)) };
    }
    const diff = set.diffFrom(sent);
    const again = new Set([...this.#added, ...this.#forgotten]);
    if (again.size === 0) return diff;
    const names = new Set(diff.changed.map(({ name }) => name));
    const extra = [...again].filter((name) => !names.has(name));
    return {
      changed: [...diff.changed, ...extra.flatMap((name) => set.resources.get(name) ?? [])],
      removed: [...diff.removed, ...[...this.#added].filter((name) => set.find(name).length === 0)],
    };
  }

  #diffNamed(set: ResourceSet): ResourceDiff {
    const wanted = new Map(set.ofNode(this.#node).map((resource) => [resource.name, resource]));
    const removed = new Set<string>();
    for (const name of this.#names) {
      const found = set.find(name);
      if (found.length === 0 && this.#added.has(name)) removed.add(name);
      for (const resource of found) wanted.set(resource.name, resource);
    }
    for (const name of this.#versions.keys()) if (!wanted.has(name)) removed.add(name);
    const changed = [...wanted.values()].filter(({ name, version }) => this.#versions.get(name) !== version);
    for (const name of removed) this.#versions.delete(name);
    for (const { name, version } of changed) this.#versions.set(name, version);
    this.#sentSet = undefined;
    return { changed, removed: [...removed] };
  }
}
