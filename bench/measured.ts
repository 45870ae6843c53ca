// What a run has measured so far, and what could not be measured: one failure costs its own rows and no others.
import { MeshError } from '#shared/errors.ts';
import { medians } from './statistics.ts';

/** Numbers by name. */
export type Sample = Readonly<Record<string, number>>;

export interface MeasuredDeps {
  readonly progress: (line: string) => void;
  /** An abort ends the run: it is no failure of a measurement. */
  readonly signal: AbortSignal;
}

export class Measured {
  readonly #deps: MeasuredDeps;
  readonly #samples = new Map<string, Sample[]>();
  readonly #faults = new Map<string, string>();

  constructor(deps: MeasuredDeps) {
    this.#deps = deps;
  }

  /** Why measurements failed, by key. */
  get faults(): ReadonlyMap<string, string> {
    return this.#faults;
  }

  /** By key, of what never failed. */
  medians(): ReadonlyMap<string, Sample> {
    return new Map([...this.#samples].flatMap(([key, list]) => (this.#faults.has(key) ? [] : [[key, medians(list)]])));
  }

  /** Measures, unless it has failed before: then it would fail again, and take its time for that. `when` undefined: a warm-up, not kept. */
  async take(key: string, when: string | undefined, measure: () => Promise<Sample>): Promise<void> {
    if (this.#faults.has(key)) return;
    const sample = await this.attempt([key], measure);
    if (!sample || when === undefined) return;
    this.#samples.set(key, [...(this.#samples.get(key) ?? []), sample]);
    const numbers = Object.entries(sample).map(([field, value]) => `${field} ${value.toFixed(value < 10 ? 2 : 0)}`);
    this.#deps.progress(`${when.padEnd(7)}  ${key.padEnd(44)} ${numbers.join('  ')}`);
  }

  /** Work that all of these need; undefined: it failed, and they with it. */
  async attempt<T>(keys: readonly string[], work: () => Promise<T>): Promise<T | undefined> {
    const { progress, signal } = this.#deps;
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      const { message } = MeshError.from(error);
      for (const key of keys) {
        this.#faults.set(key, message);
        progress(`failed   ${key.padEnd(44)} ${message}`);
      }
      return undefined;
    }
  }
}
