// The names of the files that the mesh writes: `KIND--NAMESPACE--NAME.yaml`, and `….WRITER.yaml` for an overlay. `_` stands for
// no namespace, and a `--` inside a name is escaped, so that a file name says exactly one key.
import { objectKey } from './object.ts';
import type { ObjectKey } from './object.ts';

export function objectFileName(key: ObjectKey): string {
  return `${stem(key)}.yaml`;
}

/** `writer` must hold no dot. */
export function overlayFileName(key: ObjectKey, writer: string): string {
  return `${stem(key)}.${writer}.yaml`;
}

/** The key and writer of an overlay file; undefined when the name is not one. */
export function parseOverlayFileName(file: string): { key: ObjectKey; writer: string } | undefined {
  const match = /^([A-Za-z]+)--(.+?)--(.+)\.([^.]+)\.yaml$/u.exec(file);
  if (!match) return undefined;
  const [, kind = '', namespace = '', name = '', writer = ''] = match;
  return {
    key: objectKey({ kind, metadata: { namespace: namespace === '_' ? '' : unescape(namespace), name: unescape(name) } }),
    writer,
  };
}

/** The parts of `Kind/namespace/name`. */
export function parseObjectKey(key: ObjectKey): { kind: string; namespace: string; name: string } {
  const [kind = '', namespace = '', name = ''] = key.split('/');
  return { kind, namespace, name };
}

function stem(key: ObjectKey): string {
  const { kind, namespace, name } = parseObjectKey(key);
  return [kind, namespace === '' ? '_' : escape(namespace), escape(name)].join('--');
}

function escape(name: string): string {
  return name.replaceAll('--', '-%2D');
}

function unescape(name: string): string {
  return name.replaceAll('-%2D', '--');
}
