// Checks a value against a CRD of manifests/crds/, read when its kind is first met. Structural schemas are a small language, so they
// are walked as they are: compiled to code by a JSON schema library, HTTPRoute alone costs every process 20 MB and 0.2 s.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parse } from 'yaml';
import { MeshError } from '../errors.ts';
import { packageRoot } from '../lifecycle/package-root.ts';
import type { FieldFault, FieldPath } from './field-path.ts';

/** The keywords that our CRDs use. */
interface Schema {
  type: 'object' | 'array' | 'string' | 'integer' | 'boolean';
  properties?: Record<string, Schema>;
  /** For maps: what each value is. */
  additionalProperties?: Schema;
  required?: string[];
  items?: Schema;
  enum?: unknown[];
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
}

interface Crd {
  spec: { versions: { schema: { openAPIV3Schema: Schema } }[] };
}

export class CrdChecker {
  #folder: URL;
  #schemas = new Map<string, Schema>();

  constructor(folder: URL = pathToFileURL(join(packageRoot(), 'manifests', 'crds', '/'))) {
    this.#folder = folder;
  }

  /** Faults of unknown fields, wrong types, missing fields and values out of range; `crd` is the file's name without `.yaml`. */
  check(crd: string, value: unknown): FieldFault[] {
    const faults: FieldFault[] = [];
    check(value, this.#schemaOf(crd), [], faults);
    return faults;
  }

  #schemaOf(crd: string): Schema {
    let schema = this.#schemas.get(crd);
    if (!schema) {
      const file = new URL(`${crd}.yaml`, this.#folder);
      schema = (parse(readFileSync(file, 'utf8')) as Crd).spec.versions[0]?.schema.openAPIV3Schema;
      if (!schema) throw new MeshError('internal', `${file.pathname}: no schema in its first version`);
      this.#schemas.set(crd, schema);
    }
    return schema;
  }
}

function check(value: unknown, schema: Schema, path: FieldPath, faults: FieldFault[]): void {
  const before = faults.length;
  switch (schema.type) {
    case 'object':
      if (isRecord(value)) return checkObject(value, schema, path, faults);
      break;
    case 'array':
      if (Array.isArray(value)) return checkList(value, schema, path, faults);
      break;
    case 'string':
      if (typeof value === 'string') checkLength(value.length, schema.minLength, schema.maxLength, 'characters', path, faults);
      break;
    case 'integer':
      if (typeof value === 'number') checkRange(value, schema, path, faults);
      break;
    default:
  }
  if (faults.length > before) return;
  const reason = scalarFault(value, schema);
  if (reason !== undefined) faults.push({ path, reason });
}

function checkObject(value: Record<string, unknown>, schema: Schema, path: FieldPath, faults: FieldFault[]): void {
  const { properties = {}, additionalProperties, required = [] } = schema;
  const isOpen = !schema.properties || schema['x-kubernetes-preserve-unknown-fields'] === true;
  for (const name of required)
    if ((value[name] ?? undefined) === undefined) faults.push({ path: [...path, name], reason: 'is required' });
  checkLength(Object.keys(value).length, schema.minProperties, schema.maxProperties, 'entries', path, faults);
  for (const [name, item] of Object.entries(value)) {
    const known = Object.hasOwn(properties, name);
    const field = known ? properties[name] : additionalProperties;
    // A field that is null is as if it were not there.
    if (field && !(known && item === null)) check(item, field, [...path, name], faults);
    else if (!field && !isOpen) faults.push({ path: [...path, name], reason: 'unknown field' });
  }
}

function checkList(value: readonly unknown[], schema: Schema, path: FieldPath, faults: FieldFault[]): void {
  checkLength(value.length, schema.minItems, schema.maxItems, 'items', path, faults);
  const { items } = schema;
  if (items) for (const [index, item] of value.entries()) check(item, items, [...path, index], faults);
}

function checkRange(value: number, { minimum, maximum }: Schema, path: FieldPath, faults: FieldFault[]): void {
  if (minimum !== undefined && value < minimum) faults.push({ path, reason: `must be ${minimum} or more, is ${value}` });
  if (maximum !== undefined && value > maximum) faults.push({ path, reason: `must be ${maximum} or less, is ${value}` });
}

function checkLength(
  length: number,
  min: number | undefined,
  max: number | undefined,
  what: string,
  path: FieldPath,
  faults: FieldFault[],
): void {
  if (min !== undefined && length < min) faults.push({ path, reason: `must have ${min} ${what} or more, has ${length}` });
  if (max !== undefined && length > max) faults.push({ path, reason: `must have ${max} ${what} or less, has ${length}` });
}

/** Type, choice and form. */
function scalarFault(value: unknown, { type, enum: choice, pattern }: Schema): string | undefined {
  const shown = (JSON.stringify(value) ?? 'nothing').slice(0, 60);
  const fits = type === 'integer' ? Number.isInteger(value) : value !== null && typeof value === type;
  if (!fits) return `must be of type ${type}, is ${shown}`;
  if (choice && !choice.includes(value)) return `must be one of ${choice.join(', ')}, is ${shown}`;
  if (pattern !== undefined && !new RegExp(pattern, 'u').test(String(value))) return `must match ${pattern}, is ${shown}`;
  return undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
