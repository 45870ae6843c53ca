// The number of one label set, for the data path: found once, then added to.

/** Keep it: adding to it costs nothing but the addition. */
export interface Cell {
  value: number;
  add(amount: number): void;
}

/** In the heap of its thread. */
export class PlainCell implements Cell {
  value = 0;

  add(amount: number): void {
    this.value += amount;
  }
}

/** A place in an array, which other threads may read. */
export class PlacedCell implements Cell {
  readonly #numbers: Float64Array;
  readonly #at: number;

  constructor(numbers: Float64Array, at: number) {
    this.#numbers = numbers;
    this.#at = at;
  }

  get value(): number {
    return this.#numbers[this.#at] ?? 0;
  }

  set value(value: number) {
    this.#numbers[this.#at] = value;
  }

  add(amount: number): void {
    this.#numbers[this.#at] = this.value + amount;
  }
}
