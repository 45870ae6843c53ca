// Resources as they go over the wire: encoded once, with a version made from their content, shared by every stream that gets them.
// A set is immutable; a stream that holds on to the set it was sent needs no copy of names and versions.
import { createHash } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

export interface EncodedResource {
  readonly name: string;
  /** Hash of the content: equal bytes have equal versions across restarts and replicas. */
  readonly version: string;
  /** One `resources` field of a DeltaDiscoveryResponse, tag and length included. */
  readonly deltaFrame: Uint8Array;
  /** One `resources` field of a DiscoveryResponse, tag and length included. */
  readonly sotwFrame: Uint8Array;
}

export function typeUrlOf(schema: DescMessage): string {
  return `type.googleapis.com/${schema.typeName}`;
}

/** Encodes a message; `previous` is returned instead when the content is the same, so that its bytes exist once. */
export function encodeResource<D extends DescMessage>(
  schema: D,
  name: string,
  message: MessageShape<D>,
  previous?: EncodedResource,
): EncodedResource {
  const bytes = toBinary(schema, message);
  const version = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
  if (previous?.version === version && previous.name === name) return previous;
  const any = new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string(typeUrlOf(schema))
    .tag(2, WireType.LengthDelimited)
    .bytes(bytes)
    .finish();
  // The Any stands at the end of both frames with the same tag and length before it, so the one is a part of the other.
  const sotwFrame = new BinaryWriter().tag(2, WireType.LengthDelimited).bytes(any).finish();
  const head = new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string(version)
    .tag(3, WireType.LengthDelimited)
    .string(name)
    .finish();
  const prefix = new BinaryWriter()
    .tag(2, WireType.LengthDelimited)
    .uint32(head.length + sotwFrame.length)
    .finish();
  const deltaFrame = new Uint8Array(prefix.length + head.length + sotwFrame.length);
  deltaFrame.set(prefix);
  deltaFrame.set(head, prefix.length);
  deltaFrame.set(sotwFrame, prefix.length + head.length);
  return { name, version, deltaFrame, sotwFrame: deltaFrame.subarray(prefix.length + head.length) };
}

export interface ResourceDiff {
  readonly changed: readonly EncodedResource[];
  readonly removed: readonly string[];
}

/** Names of resources by what a proxy says or is, for types that are asked for so. */
export interface ResourceNames {
  /** What is behind another name (an address of a workload). */
  find(name: string): readonly string[];
  /** What every proxy of a Kubernetes node needs. */
  ofNode(node: string): readonly string[];
}

export class ResourceSet {
  readonly resources: ReadonlyMap<string, EncodedResource>;
  #names: ResourceNames | undefined;
  #diffs = new WeakMap<ResourceSet, ResourceDiff>();
  #version: string | undefined;

  constructor(resources: ReadonlyMap<string, EncodedResource>, names?: ResourceNames) {
    this.resources = resources;
    this.#names = names;
  }

  static readonly empty = new ResourceSet(new Map());

  static of(resources: Iterable<EncodedResource>): ResourceSet {
    return new ResourceSet(new Map([...resources].map((resource) => [resource.name, resource])));
  }

  /** One version for all of it, for SotW. */
  get version(): string {
    if (this.#version === undefined) {
      const hash = createHash('sha256');
      for (const name of [...this.resources.keys()].sort()) hash.update(`${name}\n${this.resources.get(name)?.version ?? ''}\n`);
      this.#version = hash.digest('hex').slice(0, 16);
    }
    return this.#version;
  }

  /** What `name` stands for: itself, and what it is another name of. */
  find(name: string): EncodedResource[] {
    return this.#called(this.#names?.find(name) ?? [name]);
  }

  /** What a proxy of the Kubernetes node is sent unasked when it asks by name; nothing for '', a node that was not told. */
  ofNode(node: string): EncodedResource[] {
    return node === '' ? [] : this.#called(this.#names?.ofNode(node) ?? []);
  }

  #called(names: readonly string[]): EncodedResource[] {
    return names.map((name) => this.resources.get(name)).filter((resource) => resource !== undefined);
  }

  /** How to get here from `from`; computed once for all streams that were sent the same. */
  diffFrom(from: ResourceSet): ResourceDiff {
    let diff = this.#diffs.get(from);
    if (!diff) {
      const changed = [...this.resources.values()].filter(
        (resource) => from.resources.get(resource.name)?.version !== resource.version,
      );
      const removed = [...from.resources.keys()].filter((name) => !this.resources.has(name));
      diff = { changed, removed };
      this.#diffs.set(from, diff);
    }
    return diff;
  }
}
