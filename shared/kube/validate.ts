// Is this document an object that the mesh can read? Says where it is not, field by field. What the API server would refuse is
// refused here too, so that a folder and a cluster behave alike.
import { CrdChecker } from './crd-check.ts';
import type { FieldFault } from './field-path.ts';
import { isKind, KINDS } from './kinds.ts';
import type { KindInfo } from './kinds.ts';
import { ModelChecker } from './model-check.ts';
import type { KubeObject, ObjectMeta } from './object.ts';
import { valueFaults } from './value-rules.ts';

/** An object with this annotation set to "true" is absent, whatever else it says. */
export const DELETED_ANNOTATION = 'culvert.dev/deleted';

export type Validated =
  | { readonly ok: true; readonly object: KubeObject }
  /** `key` parts are given when the document says them, so that the object's last good state can be found. */
  | {
      readonly ok: false;
      readonly kind?: string | undefined;
      readonly name?: string | undefined;
      readonly namespace: string;
      readonly faults: FieldFault[];
    };

/** At most this many faults are told of one object: the first ones say enough. */
const MAX_FAULTS = 10;

type Document = Record<string, unknown>;

export class Validator {
  #models = new ModelChecker();
  #crds = new CrdChecker();

  validate(document: unknown): Validated {
    if (!isRecord(document)) return { ok: false, namespace: '', faults: [{ path: [], reason: 'is not a Kubernetes object' }] };
    const head = readHead(document);
    if (head.faults.length > 0) return { ok: false, ...head };
    const { kind = '', info, namespace } = head;
    const metadata = { ...(document['metadata'] as ObjectMeta), namespace };
    const object = { ...document, metadata } as unknown as KubeObject;
    if (isDeleted(object)) return { ok: true, object };
    const faults = this.#faults(kind, info, document);
    return faults.length === 0 ? { ok: true, object } : { ok: false, ...head, faults: faults.slice(0, MAX_FAULTS) };
  }

  #faults(kind: string, info: KindInfo | undefined, document: Document): FieldFault[] {
    if (!info) return [];
    const { schema } = info;
    const shape =
      'model' in schema
        ? this.#models.check(schema.model, document)
        : [
            ...this.#models.check('V1ObjectMeta', document['metadata']).map(underMetadata),
            ...this.#crds.check(schema.crd, document),
          ];
    // Rules look at values whose shape is known to be right.
    return shape.length > 0 ? shape : valueFaults(kind, document);
  }
}

export function isDeleted(object: KubeObject): boolean {
  return object.metadata.annotations?.[DELETED_ANNOTATION] === 'true';
}

interface Head {
  kind: string | undefined;
  name: string | undefined;
  /** `default` where a namespaced object says none. */
  namespace: string;
  info: KindInfo | undefined;
  faults: FieldFault[];
}

/** Kind, name and namespace: what must be right before anything else makes sense. */
function readHead(document: Document): Head {
  const faults: FieldFault[] = [];
  const kind = text(document['kind']);
  const apiVersion = text(document['apiVersion']);
  const metadata = isRecord(document['metadata']) ? document['metadata'] : {};
  const name = text(metadata['name']);
  const given = text(metadata['namespace']);
  const info: KindInfo | undefined = kind !== undefined && isKind(kind) ? KINDS[kind] : undefined;

  if (kind === undefined) faults.push({ path: ['kind'], reason: 'is required' });
  else if (!info)
    faults.push({ path: ['kind'], reason: `${kind} is not one of the kinds that are read: ${Object.keys(KINDS).join(', ')}` });
  else if (apiVersion === undefined || !info.apiVersions.includes(apiVersion))
    faults.push({
      path: ['apiVersion'],
      reason: `must be ${info.apiVersions.join(' or ')} for ${kind}, is ${apiVersion ?? 'missing'}`,
    });
  if (name === undefined) faults.push({ path: ['metadata', 'name'], reason: 'is required' });
  else if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/u.test(name))
    faults.push({
      path: ['metadata', 'name'],
      reason: `${JSON.stringify(name)} is not a name: lower-case letters, digits, - and . only`,
    });
  if (info && !info.namespaced && given !== undefined)
    faults.push({ path: ['metadata', 'namespace'], reason: `must not be set: ${kind} has no namespace` });
  if (given !== undefined && !/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/u.test(given))
    faults.push({ path: ['metadata', 'namespace'], reason: `${JSON.stringify(given)} is not a namespace name` });
  return { kind, name, namespace: info?.namespaced === false ? '' : (given ?? 'default'), info, faults };
}

function underMetadata(fault: FieldFault): FieldFault {
  return { ...fault, path: ['metadata', ...fault.path] };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function isRecord(value: unknown): value is Document {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
