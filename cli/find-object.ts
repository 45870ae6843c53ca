// One object of any kind by its key.
import { parseObjectKey } from '#shared/kube/file-names.ts';
import type { Informer } from '#shared/kube/informer.ts';
import { isKind } from '#shared/kube/kinds.ts';
import type { KubeObject, ObjectKey } from '#shared/kube/object.ts';

export function findObject(view: Informer, key: ObjectKey): KubeObject | undefined {
  const { kind, namespace, name } = parseObjectKey(key);
  return isKind(kind) ? view.get(kind, namespace, name) : undefined;
}
