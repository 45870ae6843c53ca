// The pods that join the mesh one by one, as Kubernetes objects, and a mesh that takes nothing but mTLS. Pure.
import { stringify } from 'yaml';
import { PODS } from '../path/topology.ts';

/** Not enrolled as a whole: its pods are. */
export const LATE = 'late';

export function latePod(index: number): string {
  return `late-${index}`;
}

/** Each pod has an identity of its own, so that none finds a certificate of another. */
export function enrolFiles(pods: number): Record<string, string> {
  const objects = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: LATE } },
    {
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: { name: 'strict', namespace: 'mesh' },
      spec: { mtls: { mode: 'STRICT' } },
    },
    ...Array.from({ length: pods }, (_, index) => latePod(index)).flatMap((name) => [
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: LATE } },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace: LATE },
        spec: {
          nodeName: PODS.client,
          serviceAccountName: name,
          containers: [{ name: 'client', image: 'shell', command: ['sleep', '1000000'] }],
        },
      },
    ]),
  ];
  return { 'enrol.yaml': objects.map((object) => stringify(object)).join('---\n') };
}
