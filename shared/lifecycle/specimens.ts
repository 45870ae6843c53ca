// Optimised code outlives a quiet time only together with objects of the kind that it was compiled for.

/**
 * V8 lets go of the shape (hidden class) of objects of which none is alive when it collects all garbage, and throws away what it compiled for
 * them. In a proxy without connections that is nearly all of its code: the next connections took a half more CPU for seconds. So the latest
 * of each kind stays, whether it has ended or not.
 */
export class Specimens {
  readonly #kept = new Map<string, readonly object[]>();

  /** In place of the one before. What these refer to stays too: the head of a request may be among it, bytes that pass through must not. */
  keep(kind: string, ...objects: readonly object[]): void {
    this.#kept.set(kind, objects);
  }

  /** All go: what they refer to must not stay. */
  forget(): void {
    this.#kept.clear();
  }
}
