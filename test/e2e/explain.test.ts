// `culvert ztunnel-config explain` as a user has it: it asks the ztunnel of the node that the pod is on, which alone knows whom it joins
// without a tunnel, for text, for programs, and for what is not there.
import t from 'tap';
import { startMeshApp } from '../harness/mesh-app.ts';

interface Explained {
  rule: string;
  source: { node: string };
  nextHop?: { kind: string; address: string; identities: string[] };
  policies?: { allowed: boolean; reason: string };
}

const DENY = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-one, namespace: inside }
spec:
  selector: { matchLabels: { app: far } }
  action: DENY
  rules: [{ from: [{ source: { principals: [cluster.local/ns/inside/sa/one] } }] }]
`;

t.test('explain', { timeout: 120_000 }, async (t) => {
  // The pods that share a node are not on the first one, which is asked when it does not matter.
  const swap = (text: string): string => text.replace(/node-[12]/gu, (node) => (node === 'node-1' ? 'node-2' : 'node-1'));
  const app = await startMeshApp(t, swap);
  const { lab } = app;
  const nodes = (await lab.state()).nodes.map(({ name }) => name);
  t.same(nodes, ['node-1', 'node-2']);
  const explain = async (source: string, destination: string): Promise<Explained> =>
    JSON.parse(await lab.must(['ztunnel-config', 'explain', source, destination, '-o', 'json'])) as Explained;

  const joined = await explain('inside/one', 'near.inside:80');
  t.match(joined, { rule: 'service', source: { node: 'node-2' }, nextHop: { kind: 'same-node', identities: [] } });
  t.same(await explain(await app.ip('one'), 'near:80'), joined, 'by its address, and by the name that the pod itself would use');

  const across = await explain('inside/far', 'near.inside:80');
  t.match(across, {
    source: { node: 'node-1' },
    nextHop: {
      kind: 'hbone',
      address: `${await app.ip('near')}:15008`,
      identities: ['spiffe://cluster.local/ns/inside/sa/near'],
    },
    policies: { allowed: true },
  });

  const text = await lab.must(['ztunnel-config', 'explain', 'inside/one', 'near.inside:80']);
  t.match(text, /^SOURCE +inside\/one \(spiffe:\/\/cluster\.local\/ns\/inside\/sa\/one\)$/mu);
  t.match(text, /^NEXT HOP +\S+:8080 \(inside\/near\), same-node$/mu);
  t.match(text, /^ENDPOINT +ADDRESS +USED\ninside\/near +\S+:8080 +yes$/mu);

  await lab.must(['apply', '-f', '-'], { input: DENY });
  let refused = await explain('inside/one', 'far.inside:80');
  for (let i = 0; i < 50 && refused.policies?.allowed !== false; i++) refused = await explain('inside/one', 'far.inside:80');
  t.match(refused.policies, { allowed: false, reason: 'explicitly denied by: inside/no-one' });
  t.match((await explain('inside/near', 'far.inside:80')).policies, { allowed: true });

  for (const [source, destination, error] of [
    ['inside/nobody', 'near.inside:80', /src=inside\/nobody: no workload of the mesh has this address/u],
    ['inside/one', 'nobody.example:80', /dst=nobody\.example:80: inside\/one knows no service of this name/u],
    ['inside/one', 'near.inside', /dst=near\.inside: neither HOST:PORT nor IP:PORT/u],
  ] as const) {
    const outcome = await lab.culvert(['ztunnel-config', 'explain', source, destination]);
    t.not(outcome.code, 0);
    t.match(outcome.stderr, error);
  }
});
