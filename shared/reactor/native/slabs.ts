// Copies of what the kernel refused. In a bulk transfer one is made and sent every few reads, so their memory is used again: as garbage it
// would cost more than the copying.

/** Bytes: what one read may take, so any refused rest of it fits. */
const SIZE = 512 * 1024;
/** Below this a copy of its own holds less: a connection whose peer does not read keeps several. */
const SMALLEST = 192 * 1024;
/** Slabs kept while nobody needs them. */
const KEPT = 8;

/** Of one thread. */
export class Slabs {
  readonly #free: ArrayBuffer[] = [];

  copy(bytes: Uint8Array): Uint8Array {
    if (bytes.length < SMALLEST || bytes.length > SIZE) return Uint8Array.from(bytes);
    const copy = new Uint8Array(this.#free.pop() ?? new ArrayBuffer(SIZE), 0, bytes.length);
    copy.set(bytes);
    return copy;
  }

  /** Takes back a copy, or the rest of one, that nobody uses any more. */
  give({ buffer }: Uint8Array): void {
    if (buffer instanceof ArrayBuffer && buffer.byteLength === SIZE && this.#free.length < KEPT) this.#free.push(buffer);
  }
}
