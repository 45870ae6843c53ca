// What the kernel did not take yet of a connection, copied. Few connections have any: made by the first bytes that it refuses, and gone with the last.
import type { Slabs } from './slabs.ts';

export class Unsent {
  /** Octets that wait. */
  length = 0;
  readonly #slabs: Slabs;
  readonly #chunks: Uint8Array[] = [];

  constructor(slabs: Slabs) {
    this.#slabs = slabs;
  }

  /** Copies them. */
  push(bytes: Uint8Array): void {
    this.#chunks.push(this.#slabs.copy(bytes));
    this.length += bytes.length;
  }

  /** What is to be sent next; undefined when nothing waits. */
  get next(): Uint8Array | undefined {
    return this.#chunks[0];
  }

  /** So much of the next ones went out. */
  drop(octets: number): void {
    const chunk = this.#chunks[0];
    if (!chunk) return;
    this.length -= octets;
    if (octets < chunk.length) this.#chunks[0] = chunk.subarray(octets);
    else {
      this.#chunks.shift();
      this.#slabs.give(chunk);
    }
  }

  /** A copy of all. */
  copy(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** Nothing of it will be sent. */
  release(): void {
    for (const chunk of this.#chunks) this.#slabs.give(chunk);
  }
}
