// The numbers of a worker thread in memory that the main thread reads (followed-numbers.ts). A new label set is announced once; counting
// is a plain store into a place that only this thread writes, without a lock, and nobody is asked when somebody scrapes.
// A place is 8 aligned bytes, which 64-bit machines store and load whole.

/** Metrics that are kept in one kind of place. */
export interface SeriesFamily {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  /** Of a histogram's buckets. */
  readonly bounds?: readonly number[] | undefined;
}

/** What the reader must hear, in this order; plain values that survive structured clone. */
export type Announcement =
  /** Families are numbered from 0. */
  | { readonly kind: 'family'; readonly family: SeriesFamily }
  /** Memory for the series that follow. */
  | { readonly kind: 'page'; readonly numbers: Float64Array<SharedArrayBuffer> }
  /** A label set, its values joined by NUL, from place `at` of the last page. */
  | { readonly kind: 'series'; readonly family: number; readonly values: string; readonly at: number };

/** Numbers in a page, 4 KiB: those of some hundred label sets. */
const PAGE = 512;

/** Consecutive numbers. */
export interface Places {
  readonly numbers: Float64Array;
  readonly at: number;
}

export interface SharedFamily {
  /** `count` places, all 0, for a label set: its values joined by NUL, as one string is sent in a fraction of the time of thirty. */
  take(values: string, count: number): Places;
}

export class SharedNumbers {
  readonly #announce: (news: Announcement) => void;
  #families = 0;
  #page = new Float64Array(new SharedArrayBuffer(0));
  #used = 0;

  /** `announce` must have handed it over when it returns: what is counted in it then survives the thread. */
  constructor(announce: (news: Announcement) => void) {
    this.#announce = announce;
  }

  /** Once for each family. */
  declare(family: SeriesFamily): SharedFamily {
    const number = this.#families++;
    this.#announce({ kind: 'family', family });
    return { take: (values, count) => this.#take(number, values, count) };
  }

  #take(family: number, values: string, count: number): Places {
    if (this.#used + count > this.#page.length) {
      this.#page = new Float64Array(new SharedArrayBuffer(Math.max(PAGE, count) * Float64Array.BYTES_PER_ELEMENT));
      this.#used = 0;
      this.#announce({ kind: 'page', numbers: this.#page });
    }
    const at = this.#used;
    this.#used += count;
    this.#announce({ kind: 'series', family, values, at });
    return { numbers: this.#page, at };
  }
}
