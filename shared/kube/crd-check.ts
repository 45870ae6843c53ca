// Checks a value against a CRD of manifests/crds/: its structural schema is compiled by ajv with unknown fields refused. Read and
// compiled when the kind is first met.
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import type { ErrorObject, ValidateFunction } from 'ajv';
import { parse } from 'yaml';
import { MeshError } from '../errors.ts';
import type { FieldFault, FieldPath } from './field-path.ts';

interface Crd {
  spec: { versions: { name: string; schema: { openAPIV3Schema: Schema } }[] };
}

type Schema = Record<string, unknown>;

export class CrdChecker {
  #folder: URL;
  #ajv = new Ajv({ allErrors: true, verbose: true, validateFormats: false, strict: false });
  #validators = new Map<string, ValidateFunction>();

  constructor(folder: URL = new URL('../../manifests/crds/', import.meta.url)) {
    this.#folder = folder;
  }

  /** Faults of unknown fields, wrong types, missing fields and values out of range; `crd` is the file's name without `.yaml`. */
  check(crd: string, value: unknown): FieldFault[] {
    const validate = this.#validatorOf(crd);
    if (validate(value)) return [];
    return (validate.errors ?? []).map((error) => toFault(error, value));
  }

  #validatorOf(crd: string): ValidateFunction {
    let validator = this.#validators.get(crd);
    if (!validator) {
      const file = new URL(`${crd}.yaml`, this.#folder);
      const schema = (parse(readFileSync(file, 'utf8')) as Crd).spec.versions[0]?.schema.openAPIV3Schema;
      if (!schema) throw new MeshError('internal', `${file.pathname}: no schema in its first version`);
      validator = this.#ajv.compile(closed(schema));
      this.#validators.set(crd, validator);
    }
    return validator;
  }
}

/** The structural schema as JSON schema: unknown fields refused, Kubernetes' extensions translated. */
function closed(schema: Schema): Schema {
  const out: Schema = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key.startsWith('x-kubernetes-') || key === 'default' || key === 'description') continue;
    out[key] =
      key === 'properties' ? mapValues(value as Record<string, Schema>, closed) : isSchema(value) ? closed(value) : value;
  }
  if (schema['x-kubernetes-int-or-string'] === true) out['type'] = ['integer', 'string'];
  if (isSchema(schema['properties']) && schema['x-kubernetes-preserve-unknown-fields'] !== true)
    out['additionalProperties'] ??= false;
  return out;
}

function mapValues(record: Record<string, Schema>, map: (schema: Schema) => Schema): Record<string, Schema> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function toFault(error: ErrorObject, root: unknown): FieldFault {
  const path = pathOf(error.instancePath, root);
  const params = error.params as Record<string, unknown>;
  const at = (key: unknown): FieldPath => [...path, String(key)];
  switch (error.keyword) {
    case 'additionalProperties':
      return { path: at(params['additionalProperty']), reason: 'unknown field' };
    case 'required':
      return { path: at(params['missingProperty']), reason: 'is required' };
    case 'enum':
      return {
        path,
        reason: `must be one of ${(params['allowedValues'] as unknown[]).join(', ')}, is ${JSON.stringify(error.data)}`,
      };
    case 'type':
      return { path, reason: `must be of type ${String(params['type'])}, is ${JSON.stringify(error.data)?.slice(0, 40)}` };
    default:
      return { path, reason: error.message ?? error.keyword };
  }
}

/** ajv's JSON pointer with list indexes as numbers. */
function pathOf(pointer: string, root: unknown): FieldPath {
  let here: unknown = root;
  return pointer
    .split('/')
    .slice(1)
    .map((escaped) => {
      const key = escaped.replaceAll('~1', '/').replaceAll('~0', '~');
      const part = Array.isArray(here) ? Number(key) : key;
      here = (here as Record<string | number, unknown> | undefined)?.[part];
      return part;
    });
}
