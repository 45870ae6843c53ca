// Where things are: each has a small number, and is either an object that is kept, or an entry of an encoded batch that is decoded when it
// is used. Of those a number that was used of late stays decoded, so that what connections use costs no decoding.
import type { EncodedBatch } from './encoded.ts';
import { bytesAt, lengthAt } from './encoded.ts';

/** Decoded things of one generation; those used since it began are taken over into the next one. */
const GENERATION = 1024;

/** Batches in use, by number, and how much of each still counts. */
export class Batches {
  readonly #batches: (EncodedBatch | undefined)[] = [];
  readonly #numbers = new Map<EncodedBatch, number>();
  readonly #live: number[] = [];
  readonly #free: number[] = [];

  get(number: number): EncodedBatch | undefined {
    return this.#batches[number];
  }

  /** One more entry of it is in use. */
  hold(batch: EncodedBatch, size: number): number {
    let number = this.#numbers.get(batch);
    if (number === undefined) {
      number = this.#free.pop() ?? this.#batches.length;
      this.#batches[number] = batch;
      this.#numbers.set(batch, number);
      this.#live[number] = 0;
    }
    this.#live[number] = (this.#live[number] ?? 0) + size;
    return number;
  }

  /** An entry is no longer in use: the memory of a batch goes with its last one. */
  release(number: number, size: number): void {
    const left = (this.#live[number] ?? 0) - size;
    this.#live[number] = left;
    const batch = this.#batches[number];
    if (left > 0 || !batch) return;
    this.#numbers.delete(batch);
    this.#batches[number] = undefined;
    this.#free.push(number);
  }

  get count(): number {
    return this.#numbers.size;
  }

  /** Those of which less than half, or little at all, is in use: their rest had better be put together. */
  sparse(): Set<EncodedBatch> {
    const found = new Set<EncodedBatch>();
    for (const [batch, number] of this.#numbers) {
      const live = this.#live[number] ?? 0;
      if (live * 2 < batch.bytes.length || batch.bytes.length < SMALL) found.add(batch);
    }
    return found;
  }

  /** Bytes that nothing refers to. */
  get dead(): number {
    let dead = 0;
    for (const [batch, number] of this.#numbers) dead += batch.bytes.length - (this.#live[number] ?? 0);
    return dead;
  }
}

const SMALL = 64 * 1024;

export class Places<T> {
  readonly #batches: Batches;
  readonly #decode: (bytes: Uint8Array) => T;
  /** The number of the batch, one more than it; 0: an object, or nothing. */
  #batchOf = new Int32Array(64);
  #entryOf = new Int32Array(64);
  readonly #objects = new Map<number, T>();
  #recent = new Map<number, T>();
  #older = new Map<number, T>();
  readonly #free: number[] = [];
  #next = 0;

  constructor(batches: Batches, decode: (bytes: Uint8Array) => T) {
    this.#batches = batches;
    this.#decode = decode;
  }

  get size(): number {
    return this.#next - this.#free.length;
  }

  /** Numbers in use, the lowest first. */
  *all(): Generator<number> {
    for (let place = 0; place < this.#next; place++) if (this.#batchOf[place] !== 0 || this.#objects.has(place)) yield place;
  }

  keep(object: T): number {
    const place = this.#take();
    this.#objects.set(place, object);
    return place;
  }

  /** `pinned`: decoded now, and for as long as it is here. */
  keepEncoded(batch: EncodedBatch, entry: number, pinned: boolean): number {
    const place = this.#take();
    this.#point(place, batch, entry);
    if (pinned) this.#objects.set(place, this.#decode(bytesAt(batch, entry)));
    return place;
  }

  /** The same thing elsewhere. */
  move(place: number, batch: EncodedBatch, entry: number): void {
    this.#unpoint(place);
    this.#point(place, batch, entry);
  }

  at(place: number): T {
    return this.#objects.get(place) ?? this.#recent.get(place) ?? this.#fetch(place);
  }

  /** Where it is encoded; undefined: it was given as an object. */
  encodedAt(place: number): { batch: EncodedBatch; entry: number } | undefined {
    const batch = this.#batches.get((this.#batchOf[place] ?? 0) - 1);
    return batch && { batch, entry: this.#entryOf[place] ?? 0 };
  }

  release(place: number): void {
    this.#unpoint(place);
    this.#objects.delete(place);
    this.#recent.delete(place);
    this.#older.delete(place);
    this.#free.push(place);
  }

  #fetch(place: number): T {
    let thing = this.#older.get(place);
    if (thing === undefined) {
      const encoded = this.encodedAt(place);
      if (!encoded) throw new RangeError(`nothing is at the place ${place}`);
      thing = this.#decode(bytesAt(encoded.batch, encoded.entry));
    }
    if (this.#recent.size >= GENERATION) {
      this.#older = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(place, thing);
    return thing;
  }

  #point(place: number, batch: EncodedBatch, entry: number): void {
    this.#batchOf[place] = this.#batches.hold(batch, lengthAt(batch, entry)) + 1;
    this.#entryOf[place] = entry;
  }

  #unpoint(place: number): void {
    const encoded = this.encodedAt(place);
    if (!encoded) return;
    this.#batches.release((this.#batchOf[place] ?? 0) - 1, lengthAt(encoded.batch, encoded.entry));
    this.#batchOf[place] = 0;
  }

  #take(): number {
    const place = this.#free.pop() ?? this.#next++;
    if (place < this.#batchOf.length) return place;
    this.#batchOf = grown(this.#batchOf);
    this.#entryOf = grown(this.#entryOf);
    return place;
  }
}

function grown(array: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(array.length * 2);
  larger.set(array);
  return larger;
}
