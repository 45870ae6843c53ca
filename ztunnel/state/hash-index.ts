// Numbers by the hash of a text, in the order in which they came. What shares a hash is found together: the asker looks which one it means.

const NONE: readonly number[] = [];

export class HashIndex {
  /** A number alone, or a list of several: most are alone. */
  readonly #places = new Map<number, number | number[]>();

  add(hash: number, place: number): void {
    const known = this.#places.get(hash);
    if (known === undefined) this.#places.set(hash, place);
    else if (typeof known === 'number') this.#places.set(hash, [known, place]);
    else known.push(place);
  }

  remove(hash: number, place: number): void {
    const known = this.#places.get(hash);
    if (known === place) this.#places.delete(hash);
    if (known === undefined || typeof known === 'number') return;
    const at = known.indexOf(place);
    if (at >= 0) known.splice(at, 1);
    const [only] = known;
    if (known.length === 1 && only !== undefined) this.#places.set(hash, only);
  }

  has(hash: number): boolean {
    return this.#places.has(hash);
  }

  find(hash: number): readonly number[] {
    const known = this.#places.get(hash);
    if (known === undefined) return NONE;
    return typeof known === 'number' ? [known] : known;
  }
}
