// The pods of the store as the certificate authority asks for them.
import type { Pod } from '#shared/kube/kinds.ts';
import type { PodInfo, PodLookup } from './ca/impersonation.ts';
import type { ObjectStore } from './store/store.ts';

export function podLookup(store: ObjectStore): PodLookup {
  return {
    pod: (namespace, name) => infoOf(store.get('Pod', namespace, name)),
    podsOnNode: function* (nodeName) {
      for (const key of store.podsOnNode(nodeName)) {
        const [namespace = '', name = ''] = key.split('/');
        const info = infoOf(store.get('Pod', namespace, name));
        if (info) yield info;
      }
    },
  };
}

function infoOf(pod: Pod | undefined): PodInfo | undefined {
  if (!pod) return undefined;
  const { metadata, spec, status } = pod;
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    uid: metadata.uid ?? '',
    serviceAccount: spec?.serviceAccountName ?? 'default',
    nodeName: spec?.nodeName ?? '',
    phase: status?.phase,
  };
}
