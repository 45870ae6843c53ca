// What the delta client needs to know of a kind of resource: its type URL, how bytes become a value, and who takes the values.
import { fromBinary } from '@bufbuild/protobuf';
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';

export interface NamedResource<T> {
  name: string;
  version: string;
  /** Other names by which it may have been asked for. */
  aliases?: readonly string[];
  resource: T;
}

/** One response, decoded as a whole before any of it is applied. */
export interface ResourceBatch<T> {
  set: readonly NamedResource<T>[];
  /** Names that are gone; some may never have been here. */
  removed: readonly string[];
}

/** Becomes `name: reason` in the NACK. */
export interface Rejection {
  name: string;
  reason: string;
}

export interface ResourceType<T> {
  readonly typeUrl: string;
  /** Throws to reject this one resource; the message becomes the reason. */
  decode(bytes: Uint8Array, name: string): T;
  /**
   * Takes a batch and returns the resources that it refuses, the rest being in effect when it returns. When it throws, the whole
   * batch is rejected and must not have taken effect.
   */
  apply(batch: ResourceBatch<T>): readonly Rejection[];
  /** The response turned out to be none: what was decoded of it does not count. */
  discard?(): void;
}

export interface ResourceTypeOptions<T> {
  /** Further checks after decoding; throws to reject. */
  validate?: (resource: T, name: string) => void;
  apply: (batch: ResourceBatch<T>) => readonly Rejection[];
  /** Keep fields that the schema does not know in `$unknown`, to be able to refuse them; default false. */
  keepUnknown?: boolean;
}

/**
 * A resource type whose resources are protobuf messages. `bytes` fields of a decoded message are views of the whole response: turn
 * what is kept into text or a copy, or the response stays in memory.
 */
export function resourceType<D extends DescMessage>(
  schema: D,
  options: ResourceTypeOptions<MessageShape<D>>,
): ResourceType<MessageShape<D>> {
  const { validate, apply, keepUnknown = false } = options;
  return {
    typeUrl: `type.googleapis.com/${schema.typeName}`,
    decode(bytes, name) {
      const resource = fromBinary(schema, bytes, { readUnknownFields: keepUnknown });
      validate?.(resource, name);
      return resource;
    },
    apply,
  };
}
