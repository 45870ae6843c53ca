// A parsed YAML mapping read field by field: each access checks the type, and done() names the fields that nobody asked for.
import { MeshError } from '#shared/errors.ts';

export class YamlReader {
  readonly value: unknown;
  readonly #path: string;
  #seen = new Set<string>();

  constructor(value: unknown, path: string) {
    this.value = value;
    this.#path = path;
  }

  /** `workloads[0].name`, for messages; '' is the mapping itself. */
  field(name: string): string {
    return [this.#path, name].filter((part) => part !== '').join('.');
  }

  text(name: string, fallback?: string): string {
    const value = this.#get(name) ?? fallback;
    if (typeof value === 'string') return value;
    if (typeof value === 'number') return String(value);
    throw this.#invalid(name, value === undefined ? 'is missing' : 'is not a text');
  }

  number(name: string, fallback: number): number {
    const value = this.#get(name) ?? fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
    throw this.#invalid(name, 'is not a whole number');
  }

  flag(name: string): boolean {
    const value = this.#get(name) ?? false;
    if (typeof value === 'boolean') return value;
    throw this.#invalid(name, 'is not true or false');
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const text = this.text(name, fallback);
    const found = values.find((value) => value.toLowerCase() === text.toLowerCase());
    if (found === undefined) throw this.#invalid(name, `"${text}" is not one of ${values.join(', ')}`);
    return found;
  }

  texts(name: string): string[] {
    return this.#items(name).map((item, index) => {
      if (typeof item === 'string') return item;
      throw this.#invalid(`${name}[${index}]`, 'is not a text');
    });
  }

  numbers(name: string): number[] {
    return this.#items(name).map((item, index) => {
      if (typeof item === 'number') return item;
      throw this.#invalid(`${name}[${index}]`, 'is not a number');
    });
  }

  list(name: string): YamlReader[] {
    return this.#items(name).map((item, index) => new YamlReader(item, this.field(`${name}[${index}]`)));
  }

  /** A list of lists of lists of mappings. */
  nested(name: string): YamlReader[][][] {
    return asList(this.#get(name), this.field(name)).map((outer, i) =>
      asList(outer, this.field(`${name}[${i}]`)).map((inner, j) =>
        asList(inner, this.field(`${name}[${i}][${j}]`)).map(
          (item, k) => new YamlReader(item, this.field(`${name}[${i}][${j}][${k}]`)),
        ),
      ),
    );
  }

  optionalMap(name: string): YamlReader | undefined {
    const value = this.#get(name);
    return value === undefined || value === null ? undefined : new YamlReader(value, this.field(name));
  }

  /** Key and value of each entry of a mapping; '' is this mapping itself. */
  entries(name: string): [string, YamlReader][] {
    const map = name === '' ? this.#map() : (this.#get(name) ?? {});
    if (!isMap(map)) throw this.#invalid(name, 'is not a mapping');
    return Object.entries(map).map(([key, value]) => [key, new YamlReader(value, `${this.field(name)}["${key}"]`)]);
  }

  /** Throws when the mapping has a field that was not read: a misspelt one must not pass for an absent one. */
  done(): void {
    const extra = Object.keys(this.#map()).filter((name) => !this.#seen.has(name));
    if (extra.length > 0) throw this.#invalid(extra[0] ?? '', 'is not a known field');
  }

  #get(name: string): unknown {
    this.#seen.add(name);
    return this.#map()[name];
  }

  #map(): Record<string, unknown> {
    if (this.value === null || this.value === undefined) return {};
    if (!isMap(this.value)) throw this.#invalid('', 'is not a mapping');
    return this.value;
  }

  #items(name: string): unknown[] {
    return asList(this.#get(name), this.field(name));
  }

  #invalid(name: string, reason: string): MeshError {
    return new MeshError('invalid_config', `${this.field(name)}: ${reason}`);
  }
}

function asList(value: unknown, field: string): unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value as unknown[];
  throw new MeshError('invalid_config', `${field}: is not a list`);
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
