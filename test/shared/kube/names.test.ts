// Deterministic names: of expanded Pods, of files, of fields.
import fc from 'fast-check';
import t from 'tap';
import { expandDeployment, uidOf } from '../../../shared/kube/expand.ts';
import { formatFieldPath } from '../../../shared/kube/field-path.ts';
import { objectFileName, overlayFileName, parseObjectKey, parseOverlayFileName } from '../../../shared/kube/file-names.ts';
import type { Deployment } from '../../../shared/kube/kinds.ts';

t.test('Deployments expand to Pods', async (t) => {
  const deployment: Deployment = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: 'shop', uid: 'u', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: 'web' } },
      template: { metadata: { labels: { app: 'web' }, annotations: { a: 'b' } }, spec: { containers: [{ name: 'c' }] } },
    },
  };
  const pods = expandDeployment(deployment);
  t.same(
    pods.map(({ metadata }) => metadata.name),
    ['web-0', 'web-1', 'web-2'],
  );
  t.match(pods[1], {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: 'shop',
      uid: uidOf('Pod/shop/web-1'),
      labels: { app: 'web' },
      annotations: { a: 'b' },
      creationTimestamp: '2026-01-01T00:00:00Z',
      ownerReferences: [{ apiVersion: 'apps/v1', kind: 'Deployment', name: 'web', uid: 'u', controller: true }],
    },
    spec: { containers: [{ name: 'c' }] },
  });
  const bare = { apiVersion: 'apps/v1', kind: 'Deployment' as const, metadata: { name: 'x', namespace: 'y' } };
  t.equal(expandDeployment(bare).length, 1, 'one by default');
  t.same(expandDeployment({ ...deployment, spec: { ...deployment.spec, replicas: 0 } as Deployment['spec'] & object }), []);
});

t.test('UIDs', async (t) => {
  t.match(uidOf('Pod/a/b'), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/u);
  t.equal(uidOf('Pod/a/b'), uidOf('Pod/a/b'));
  t.not(uidOf('Pod/a/b'), uidOf('Pod/a/c'));
});

t.test('file names', async (t) => {
  t.equal(objectFileName('Pod/shop/web-0'), 'Pod--shop--web-0.yaml');
  t.equal(objectFileName('Namespace//shop'), 'Namespace--_--shop.yaml');
  t.equal(overlayFileName('Pod/shop/web.v1', 'kubelet'), 'Pod--shop--web.v1.kubelet.yaml');
  t.same(parseObjectKey('Pod/shop/web-0'), { kind: 'Pod', namespace: 'shop', name: 'web-0' });
  for (const name of ['x.yaml', 'Pod--a.w.yaml', 'Pod--a--b.yaml', 'Pod--a--b.w.yml'])
    t.equal(parseOverlayFileName(name), undefined, name);
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?$/u);
  const dotted = fc.array(label, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('.'));
  fc.assert(
    fc.property(
      fc.constantFrom('Pod', 'Namespace'),
      fc.oneof(label, fc.constant('')),
      dotted,
      label,
      (kind, namespace, name, writer) => {
        const key = `${kind}/${namespace}/${name}`;
        t.same(parseOverlayFileName(overlayFileName(key, writer)), { key, writer });
      },
    ),
  );
});

t.test('field paths', async (t) => {
  t.equal(formatFieldPath(['spec', 'rules', 0, 'matches']), 'spec.rules[0].matches');
  t.equal(formatFieldPath(['metadata', 'labels', 'a.b/c']), 'metadata.labels["a.b/c"]');
  t.equal(formatFieldPath([]), undefined);
});
