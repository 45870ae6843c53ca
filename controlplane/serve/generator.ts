// Who makes the resources of a type for a proxy. Ztunnels get theirs from the snapshot as they are; waypoints and sidecars from the
// Envoy translation. A generator is pure: the same snapshot and proxy give the same resources, and it may remember by snapshot.
import type { Registry } from '@bufbuild/protobuf';
import { MeshError } from '#shared/errors.ts';
import type { ObjectFault } from '#shared/kube/object.ts';
import type { ResourceSet } from '../snapshot/resource-set.ts';
import type { Snapshot } from '../snapshot/snapshot.ts';
import type { ProxyKind, ProxyNode } from './node.ts';

export interface Generator {
  /** The resource types and every type inside an Any of theirs, for /debug/config_dump. */
  readonly registry: Registry;
  /** `ResourceSet.of(messages.map((m) => encodeResource(Schema, name, m)))`; equal content gives equal versions, so nothing is resent. */
  generate(snapshot: Snapshot, node: ProxyNode, typeUrl: string): ResourceSet;
  /** What could not be translated for any proxy; shown with the faults of the mesh. */
  faults?(snapshot: Snapshot): readonly ObjectFault[];
}

export class GeneratorRegistry {
  #generators = new Map<string, Generator>();

  register(kinds: readonly ProxyKind[], typeUrls: readonly string[], generator: Generator): void {
    for (const kind of kinds) for (const typeUrl of typeUrls) this.#generators.set(`${kind} ${typeUrl}`, generator);
  }

  /** Undefined for a type that proxies of this kind do not get. */
  find(kind: ProxyKind, typeUrl: string): Generator | undefined {
    return this.#generators.get(`${kind} ${typeUrl}`);
  }

  /** What the generators could not translate; a generator that fails says that. */
  faults(snapshot: Snapshot): ObjectFault[] {
    return this.all().flatMap((generator) => {
      try {
        return generator.faults?.(snapshot) ?? [];
      } catch (error) {
        return [{ where: 'translation', reason: MeshError.from(error).message }];
      }
    });
  }

  /** Each generator once. */
  all(): Generator[] {
    return [...new Set(this.#generators.values())];
  }
}
