// One file of YAML to objects and faults. A fault in one document never hides the others; `List` documents are their items.
import { LineCounter, parseAllDocuments } from 'yaml';
import type { Document } from 'yaml';
import { formatFieldPath } from './field-path.ts';
import type { FieldPath } from './field-path.ts';
import { objectKey } from './object.ts';
import type { KubeObject, ObjectFault, ObjectKey } from './object.ts';
import type { Validator } from './validate.ts';

export interface ParsedObject {
  key: ObjectKey;
  object: KubeObject;
  /** `FILE:LINE` of the document. */
  where: string;
}

export interface ParsedFile {
  objects: ParsedObject[];
  faults: ObjectFault[];
  /** Objects that are in the file with a fault. */
  faultyKeys: ReadonlySet<ObjectKey>;
  /** Some document is too broken to say which object it is: any object that the file had may be it. */
  unidentified: boolean;
}

/** `file` is the name that fault lines show. */
export function parseFile(text: string, file: string, validator: Validator): ParsedFile {
  const objects = new Map<ObjectKey, ParsedObject>();
  const faults: ObjectFault[] = [];
  const faultyKeys = new Set<ObjectKey>();
  let unidentified = false;

  const accept = (value: unknown, whereOf: (path: FieldPath) => string): void => {
    const result = validator.validate(value);
    const key = result.ok ? objectKey(result.object) : keyOf(result);
    if (!result.ok) {
      if (key === undefined) unidentified = true;
      else faultyKeys.add(key);
      for (const { path, reason } of result.faults)
        faults.push({ where: whereOf(path), object: key, field: formatFieldPath(path), reason });
      return;
    }
    const where = whereOf([]);
    const first = key === undefined ? undefined : objects.get(key);
    if (first) faults.push({ where, object: key, reason: `is in this file twice; the one at ${first.where} is used` });
    else if (key !== undefined) objects.set(key, { key, object: result.object, where });
  };

  if (text.length === 0) {
    faults.push({ where: file, reason: 'is empty; remove the file to delete its objects' });
    return { objects: [], faults, faultyKeys, unidentified: true };
  }
  const lines = new LineCounter();
  for (const document of parseAllDocuments(text, { lineCounter: lines, prettyErrors: false })) {
    const lineAt = (offset: number): string => `${file}:${lines.linePos(offset).line}`;
    const [error] = document.errors;
    if (error) {
      faults.push({ where: lineAt(error.pos[0]), reason: `is not YAML: ${error.message}` });
      unidentified = true;
      continue;
    }
    const value = toValue(document, (reason) => {
      faults.push({ where: lineAt(document.range[0]), reason });
      unidentified = true;
    });
    if (value === null || value === undefined) continue;
    for (const [item, prefix] of items(value)) accept(item, (path) => lineAt(offsetOf(document, [...prefix, ...path])));
  }
  return { objects: [...objects.values()], faults, faultyKeys, unidentified };
}

function toValue(document: Document.Parsed, onFault: (reason: string) => void): unknown {
  try {
    return document.toJS({ maxAliasCount: 1000 }) as unknown;
  } catch (error) {
    onFault(`is not YAML: ${(error as Error).message}`);
    return undefined;
  }
}

function items(value: unknown): [unknown, FieldPath][] {
  const list = value as { kind?: unknown; items?: unknown };
  if (list.kind !== 'List' || !Array.isArray(list.items)) return [[value, []]];
  return list.items.map((item, index) => [item, ['items', index]]);
}

function keyOf({
  kind,
  name,
  namespace,
}: {
  kind?: string | undefined;
  name?: string | undefined;
  namespace: string;
}): ObjectKey | undefined {
  return kind === undefined || name === undefined ? undefined : objectKey({ kind, metadata: { namespace, name } });
}

/** Where the nearest existing ancestor of `path` stands in the file. */
function offsetOf(document: Document.Parsed, path: FieldPath): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true);
    const range = (node as { range?: [number, number, number] } | undefined)?.range;
    if (range) return range[0];
  }
  return document.contents?.range?.[0] ?? document.range[0];
}
