// Mistakes in the folder of a running mesh: each is one line with file, object, field and reason, and nothing that worked stops.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { eventually } from '../harness/lab.ts';
import { startMeshApp } from '../harness/mesh-app.ts';

const deny = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny-one, namespace: inside }
spec:
  selector: { matchLabels: { app: far } }
  action: DENY
  rules: [{ from: [{ source: { serviceAccounts: [one] } }] }]
`;

const route = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: to-nothing, namespace: inside }
spec:
  parentRefs: [{ group: "", kind: Service, name: near }]
  rules: [{ backendRefs: [{ name: nothing, port: 80 }] }]
`;

t.test('bad input costs one object, and is told', async (t) => {
  const app = await startMeshApp(t);
  const told = (pattern: RegExp): Promise<string> =>
    eventually(
      () => readFile(join(app.lab.runDir, 'controlplane', 'controlplane.log'), 'utf8'),
      (text) => pattern.test(text),
    );
  await app.lab.write('policy.yaml', deny);
  const denied = (): Promise<string> =>
    eventually(
      () => app.ask('one', 'far.inside'),
      (answer) => answer.startsWith('exit'),
    );
  t.match(await denied(), /^exit/u, 'a policy written into the folder is enforced');

  await app.lab.write('policy.yaml', deny.replace('rules:', 'ruels:'));
  const field = /policy\.yaml:\d+: AuthorizationPolicy\/inside\/deny-one: spec\.ruels: unknown field/u;
  t.match(await told(field), field, 'an unknown field');
  t.match(await app.ask('one', 'far.inside'), /^exit/u, 'its last good state is still enforced');

  await app.lab.write('broken.yaml', 'a: [b\n');
  t.match(await told(/broken\.yaml:\d+: is not YAML/u), /broken\.yaml:\d+: is not YAML/u);
  await app.lab.write('route.yaml', route);
  const reference =
    /route\.yaml:\d+: HTTPRoute\/inside\/to-nothing: spec\.rules\[0\]\.backendRefs\[0\]: Service inside\/nothing does not exist/u;
  t.match(await told(reference), reference, 'a reference to nothing');

  t.match(await app.ask('near', 'far.inside'), /^far/u, 'the rest serves');
  await app.lab.write('policy.yaml', deny.replace('[one]', '[near]'));
  t.match(
    await eventually(
      () => app.ask('one', 'far.inside'),
      (answer) => answer.startsWith('far'),
    ),
    /^far/u,
    'a correction takes effect while other mistakes remain',
  );
});
