// Configuration from the environment, as a function, so that tests feed a map. Every fault is collected before any is reported:
// an operator fixes them all at once.
import { MeshError } from './errors.ts';

export type Env = (name: string) => string | undefined;

const DURATION_UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of `5s`, `3m`, `1h30m`, `250ms`; undefined when it is not a duration. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/u.test(text)) return undefined;
  let total = 0;
  for (const [, amount, , unit] of text.matchAll(/(\d+(\.\d+)?)(ms|s|m|h|d)/gu))
    total += Number(amount) * (DURATION_UNITS[unit ?? ''] ?? 0);
  return total;
}

const BYTE_UNITS: Record<string, number> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
};

/** Bytes of a quantity as Kubernetes writes it: `512Mi`, `1.5Gi`, `500M`, `1048576`; undefined when it is none. */
export function parseBytes(text: string): number | undefined {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(|k|M|G|Ki|Mi|Gi)$/u.exec(text) ?? [];
  return amount === undefined ? undefined : Math.floor(Number(amount) * (BYTE_UNITS[unit ?? ''] ?? 1));
}

export class EnvReader {
  readonly faults: string[] = [];
  #env: Env;

  constructor(env: Env) {
    this.#env = env;
  }

  /** Undefined when unset or empty. */
  optional(name: string): string | undefined {
    const value = this.#env(name);
    return value === undefined || value === '' ? undefined : value;
  }

  string(name: string, fallback: string): string {
    return this.optional(name) ?? fallback;
  }

  required(name: string, what: string): string {
    const value = this.optional(name);
    if (value === undefined) this.faults.push(`${name} is not set: ${what}`);
    return value ?? '';
  }

  boolean(name: string, fallback: boolean): boolean {
    return this.#read(name, fallback, 'not true or false', (text) => {
      const lower = text.toLowerCase();
      if (['true', '1', 'yes'].includes(lower)) return true;
      return ['false', '0', 'no'].includes(lower) ? false : undefined;
    });
  }

  integer(name: string, fallback: number, range: { min?: number; max?: number } = {}): number {
    const { min = 0, max = Number.MAX_SAFE_INTEGER } = range;
    return this.#read(name, fallback, `not a whole number from ${min} to ${max}`, (text) => {
      const value = Number(text);
      return /^-?\d+$/u.test(text) && value >= min && value <= max ? value : undefined;
    });
  }

  /** Milliseconds. */
  duration(name: string, fallback: number): number {
    return this.#read(name, fallback, 'not a duration like 250ms, 5s, 3m or 1h', parseDuration);
  }

  bytes(name: string, fallback: number): number {
    return this.#read(name, fallback, 'not a number of bytes like 512Mi, 1Gi or 500M', parseBytes);
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    return this.#read(name, fallback, `not one of ${values.join(', ')}`, (text) => values.find((value) => value === text));
  }

  /** Reports every fault at once. */
  done(): void {
    if (this.faults.length > 0) throw new MeshError('invalid_config', this.faults.join('\n'));
  }

  #read<T>(name: string, fallback: T, fault: string, parse: (text: string) => T | undefined): T {
    const text = this.optional(name);
    if (text === undefined) return fallback;
    const value = parse(text);
    if (value === undefined) this.faults.push(`${name}="${text}": ${fault}`);
    return value ?? fallback;
  }
}
