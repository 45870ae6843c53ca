// Files of YAML: documents, lists, places of faults; and no text that makes the reader throw.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { formatFault } from '../../../shared/kube/object.ts';
import { KINDS } from '../../../shared/kube/kinds.ts';
import { Validator } from '../../../shared/kube/validate.ts';
import { parseFile } from '../../../shared/kube/yaml-file.ts';

const validator = new Validator();
const read = (text: string): ReturnType<typeof parseFile> => parseFile(text, 'f.yaml', validator);

t.test('documents', async (t) => {
  const file = read(`# a comment alone is no document
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- {apiVersion: v1, kind: Namespace, metadata: {name: b}, spce: {}}
---
apiVersion: v1
kind: Namespace
metadata:
  name: a
---
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": 1}]}}
---
just text
`);
  t.same(
    file.objects.map(({ key, where }) => `${key} ${where}`),
    ['Namespace//a f.yaml:6'],
  );
  t.same(file.faults.map(formatFault), [
    'f.yaml:7: Namespace//b: spce: unknown field',
    'f.yaml:9: Namespace//a: is in this file twice; the one at f.yaml:6 is used',
    'f.yaml:14: Pod/default/p: spec.containers[0].image: must be a string, is 1',
    'f.yaml:16: is not a Kubernetes object',
  ]);
  t.same([...file.faultyKeys], ['Namespace//b', 'Pod/default/p']);
  t.ok(file.unidentified);
});

t.test('an alias bomb is a fault', async (t) => {
  let text = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n';
  for (let n = 1; n < 12; n++) text += `a${n}: &a${n} [${Array.from({ length: 10 }, () => `*a${n - 1}`).join(', ')}]\n`;
  const { faults } = read(text);
  t.match(faults, [{ reason: /^is not YAML: .*alias/iu }]);
});

t.test('nothing makes the reader throw', async (t) => {
  const keys = fc.oneof(
    fc.constantFrom('apiVersion', 'kind', 'metadata', 'name', 'labels', 'spec', 'items', '__proto__', 'constructor'),
    fc.string(),
  );
  const values = fc.oneof(
    fc.constantFrom(...Object.keys(KINDS), 'v1', 'apps/v1', 'security.istio.io/v1', 'List'),
    fc.jsonValue(),
  );
  const documents = fc.letrec((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, values, fc.dictionary(keys, tie('value')), fc.array(tie('value'))),
  })).value;
  fc.assert(
    fc.property(documents, (document) => void read(JSON.stringify(document))),
    { numRuns: 200 },
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => void read(text)),
    { numRuns: 150 },
  );

  // Good objects with one part replaced by something else: each field of each schema meets each type.
  const good = readFileSync(new URL('../../../manifests/crds/gateway.yaml', import.meta.url), 'utf8');
  t.match(read(good).faults, [{ reason: /CustomResourceDefinition is not one of the kinds/u }]);
  const pieces: [string, object][] = [
    ['Pod', { containers: [{ name: 'c', ports: [{ containerPort: 1 }], env: [{ name: 'a', value: 'b' }] }] }],
    ['Service', { ports: [{ name: 'a', port: 1, targetPort: 'b' }], selector: { a: 'b' }, clusterIPs: ['10.0.0.1'] }],
    [
      'Deployment',
      {
        selector: { matchLabels: { a: 'b' } },
        template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c' }] } },
      },
    ],
    [
      'HTTPRoute',
      { parentRefs: [{ name: 'a' }], rules: [{ matches: [{ path: { value: '/' } }], backendRefs: [{ name: 'b', port: 1 }] }] },
    ],
    [
      'AuthorizationPolicy',
      {
        rules: [
          {
            from: [{ source: { ipBlocks: ['10.0.0.0/8'] } }],
            to: [{ operation: { ports: ['1'] } }],
            when: [{ key: 'source.ip', values: ['10.0.0.0/8'] }],
          },
        ],
      },
    ],
    [
      'PeerAuthentication',
      { selector: { matchLabels: { a: 'b' } }, mtls: { mode: 'STRICT' }, portLevelMtls: { 80: { mode: 'DISABLE' } } },
    ],
  ];
  for (const [kind, spec] of pieces) {
    const [apiVersion] = KINDS[kind as keyof typeof KINDS].apiVersions;
    const object = { apiVersion, kind, metadata: { name: 'a' }, spec };
    t.same(read(JSON.stringify(object)).faults, [], kind);
    const places = JSON.stringify(object).match(/"[^"]*"|\d+|\[|\{/gu)?.length ?? 0;
    for (let place = 0; place < places; place++) {
      for (const other of ['null', '"x"', '{}', '[null]']) read(replaceValue(object, place, other));
    }
  }
});

/** The object's JSON with its n-th value (in order of walking) replaced. */
function replaceValue(object: unknown, place: number, other: string): string {
  let seen = -1;
  return JSON.stringify(object, (_, value: unknown) => {
    seen += 1;
    return seen === place ? (JSON.parse(other) as unknown) : value;
  });
}
