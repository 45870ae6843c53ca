// STRICT and L4 policies: who gets in, in the relay of one node and through a tunnel, and what happens to what was open.
import t from 'tap';
import { eventually } from '../harness/lab.ts';
import { startMeshApp } from '../harness/mesh-app.ts';

const strict = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: inside }
spec: { mtls: { mode: STRICT } }
`;
const denyOne = (app: string): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny-one-${app}, namespace: inside }
spec:
  selector: { matchLabels: { app: ${app} } }
  action: DENY
  rules: [{ from: [{ source: { serviceAccounts: [one] } }] }]
`;

t.test('policies of a mesh', async (t) => {
  const app = await startMeshApp(t);
  const refused = (from: string, to: string): Promise<string> =>
    eventually(
      () => app.ask(from, to),
      (answer) => answer.startsWith('exit'),
    );

  await t.test('STRICT refuses plaintext, on the same node and across', async (t) => {
    t.match(await app.ask('plain', 'far.inside'), /^far/u, 'before, plaintext gets in');
    await app.lab.must(['apply', '-f', '-'], { input: strict });
    t.match(await refused('plain', 'far.inside'), /^exit/u);
    t.match(await refused('plain', 'near.inside'), /^exit/u);
    t.match(await app.ask('one', 'far.inside'), /^far/u, 'a tunnel brings an identity');
    t.match(await app.ask('one', 'near.inside'), /^near/u, 'so does the relay of one node');
    t.match(await app.ask('one', 'plain-far.outside'), /^plain-far/u, 'and the way out stays open');
    await app.lab.must(['delete', 'peerauthentication', 'default', '-n', 'inside']);
    t.match(
      await eventually(
        () => app.ask('plain', 'far.inside'),
        (answer) => answer.startsWith('far'),
      ),
      /^far/u,
      'without it plaintext gets in again',
    );
  });

  for (const target of ['far', 'near']) {
    await t.test(`a service account is denied ${target}, and its open connection is cut`, async (t) => {
      const open = app.lab.exec('inside', 'one', ['sh', '-c', `sleep 10 | node client.mjs echo ${target}.inside`]);
      t.match(await app.ask('one', `${target}.inside`), new RegExp(`^${target}`, 'u'));
      await new Promise((resolve) => setTimeout(resolve, 500));
      await app.lab.must(['apply', '-f', '-'], { input: denyOne(target) });
      t.match(await refused('one', `${target}.inside`), /^exit/u);
      const last = JSON.parse((await open).stdout.trim().split('\n').at(-1) ?? '{}') as {
        replies: number;
        failed: string | null;
      };
      t.ok(last.replies > 0, 'it was open');
      t.ok(last.failed !== null, `it was cut: ${last.failed ?? ''}`);
      t.match(
        await app.ask(target === 'far' ? 'near' : 'far', `${target}.inside`),
        new RegExp(`^${target}`, 'u'),
        'others get in',
      );
    });
  }
});
