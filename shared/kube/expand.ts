// Deployments to Pods where no ReplicaSet controller does it: a pure function with names that stay the same from run to run.
import { createHash } from 'node:crypto';
import type { Deployment, Pod } from './kinds.ts';
import { objectKey } from './object.ts';
import type { ObjectKey } from './object.ts';

/** A name-based UUID (version 8): the same key always has the same one. */
export function uidOf(key: ObjectKey): string {
  const bytes = createHash('sha256').update(key).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** `NAME-0` … `NAME-(replicas-1)`, with labels, annotations and spec of the template. */
export function expandDeployment(deployment: Deployment): Pod[] {
  const { name, namespace, uid, creationTimestamp } = deployment.metadata;
  const template = deployment.spec?.template ?? {};
  const owner = {
    apiVersion: deployment.apiVersion,
    kind: 'Deployment',
    name,
    uid: uid ?? uidOf(objectKey(deployment)),
    controller: true,
  };
  return Array.from({ length: deployment.spec?.replicas ?? 1 }, (_, index): Pod => {
    const metadata = { name: `${name}-${index}`, namespace };
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        ...metadata,
        uid: uidOf(objectKey({ kind: 'Pod', metadata })),
        ...(template.metadata?.labels && { labels: template.metadata.labels }),
        ...(template.metadata?.annotations && { annotations: template.metadata.annotations }),
        ...(creationTimestamp !== undefined && { creationTimestamp }),
        ownerReferences: [owner],
      },
      ...(template.spec && { spec: template.spec }),
    };
  });
}
