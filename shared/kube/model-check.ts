// Checks a value against a model class of the Kubernetes client: its attribute type map is the list of fields with their types.
// Classes are loaded one by one when first met, because all of them together cost 30 MB.
import { createRequire } from 'node:module';
import type { FieldFault, FieldPath } from './field-path.ts';

interface Attribute {
  baseName: string;
  type: string;
  format: string;
}

/** Resource amounts: the API takes `cpu: 1` for `cpu: "1"`, though the models say string. */
const QUANTITIES = new Set(['limits', 'requests', 'capacity', 'allocatable', 'overhead', 'sizeLimit']);

const requireModel = createRequire(import.meta.url);

export class ModelChecker {
  #attributes = new Map<string, Map<string, Attribute>>();

  /** Faults of unknown fields and wrong types; an empty list when the value fits `model`. */
  check(model: string, value: unknown): FieldFault[] {
    const faults: FieldFault[] = [];
    this.#check(value, model, '', [], faults);
    return faults;
  }

  #check(value: unknown, type: string, format: string, path: FieldPath, faults: FieldFault[]): void {
    if (value === null || value === undefined) return;
    const list = /^Array<(.+)>$/u.exec(type)?.[1];
    const map = /^\{ \[key: string\]: (.+); \}$/u.exec(type)?.[1];
    if (list !== undefined) {
      if (!Array.isArray(value)) faults.push({ path, reason: `must be a list, is ${describe(value)}` });
      else
        for (const [index, item] of value.entries()) {
          if (item === null) faults.push({ path: [...path, index], reason: 'must not be null' });
          else this.#check(item, list, format, [...path, index], faults);
        }
    } else if (map !== undefined || isModel(type)) {
      if (!isRecord(value)) faults.push({ path, reason: `must be an object, is ${describe(value)}` });
      else if (map !== undefined)
        for (const [key, item] of Object.entries(value)) this.#check(item, map, format, [...path, key], faults);
      else this.#checkFields(value, type, path, faults);
    } else {
      const reason = scalarFault(value, type, format, path);
      if (reason !== undefined) faults.push({ path, reason });
    }
  }

  #checkFields(value: Record<string, unknown>, model: string, path: FieldPath, faults: FieldFault[]): void {
    const attributes = this.#attributesOf(model);
    for (const [key, item] of Object.entries(value)) {
      const attribute = attributes.get(key);
      if (!attribute) faults.push({ path: [...path, key], reason: 'unknown field' });
      else this.#check(item, attribute.type, attribute.format, [...path, key], faults);
    }
  }

  #attributesOf(model: string): Map<string, Attribute> {
    let attributes = this.#attributes.get(model);
    if (!attributes) {
      const loaded = requireModel(`@kubernetes/client-node/dist/gen/models/${model}.js`) as Record<
        string,
        { getAttributeTypeMap(): Attribute[] }
      >;
      attributes = new Map(loaded[model]?.getAttributeTypeMap().map((attribute) => [attribute.baseName, attribute]));
      this.#attributes.set(model, attributes);
    }
    return attributes;
  }
}

function isModel(type: string): boolean {
  return /^[A-Z]\w*V\d|^V\d/u.test(type);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function scalarFault(value: unknown, type: string, format: string, path: FieldPath): string | undefined {
  switch (type) {
    case 'any':
    case 'object':
      return undefined;
    case 'string':
    case 'Date':
      if (typeof value === 'string' || (typeof value === 'number' && path.some((part) => QUANTITIES.has(String(part)))))
        return undefined;
      return `must be a string, is ${describe(value)}`;
    case 'IntOrString':
      if (typeof value === 'string' || Number.isInteger(value)) return undefined;
      return `must be a whole number or a string, is ${describe(value)}`;
    case 'number':
      if (typeof value !== 'number') return `must be a number, is ${describe(value)}`;
      return format.startsWith('int') && !Number.isInteger(value) ? `must be a whole number, is ${value}` : undefined;
    case 'boolean':
      return typeof value === 'boolean' ? undefined : `must be true or false, is ${describe(value)}`;
    default:
      return undefined;
  }
}

/** A value as a fault line shows it: its kind, and its text when short. */
function describe(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (isRecord(value)) return 'an object';
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}
