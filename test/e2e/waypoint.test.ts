// A waypoint for a service account: deployed by the command line, L7 policy and routing only there, killed, and removed.
import t from 'tap';
import { eventually } from '../harness/lab.ts';
import { startMeshApp } from '../harness/mesh-app.ts';

const readOnly = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: read-only, namespace: inside }
spec:
  targetRefs: [{ group: "", kind: Service, name: far }]
  action: ALLOW
  rules: [{ to: [{ operation: { methods: [GET], paths: ["/", "/allowed*"] } }] }]
`;

const toNear = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: far, namespace: inside }
spec:
  parentRefs: [{ group: "", kind: Service, name: far, port: 80 }]
  rules:
    - matches: [{ path: { type: Exact, value: /allowed/near } }]
      backendRefs: [{ name: near, port: 80 }]
    - backendRefs: [{ name: far, port: 80 }]
`;

/** Requests, each on a connection of its own, until seconds after a waypoint that is deleted meanwhile has gone; how many had which answer. */
const LOAD = `
end=$(($(date +%s) + 12))
while [ $(date +%s) -lt $end ]; do curl -s -m 5 -o /dev/null -w '%{http_code}\\n' http://far.inside; done | sort | uniq -c`;

t.test('a waypoint for a service account', async (t) => {
  const app = await startMeshApp(t);
  const status = (host: string, ...curl: string[]): Promise<string> =>
    app.ask('one', host, '-o', '/dev/null', '-w', '%{http_code}', ...curl);
  const becomes = (wanted: string, host: string, ...curl: string[]): Promise<string> =>
    eventually(
      () => status(host, ...curl),
      (code) => code === wanted,
    );

  t.equal(await status('far.inside', '-X', 'DELETE'), '200', 'without a waypoint nothing looks at the method');
  await app.lab.must([
    'waypoint',
    'apply',
    'far',
    '--for',
    'service',
    '--service-account',
    'far',
    '--namespace',
    'inside',
    '--wait',
  ]);
  t.match(await app.lab.must(['waypoint', 'list', '-A', '-o', 'json']), '"far"');
  await app.lab.must(['apply', '-f', '-'], { input: readOnly });
  t.equal(await becomes('403', 'far.inside', '-X', 'DELETE'), '403');
  t.equal(await status('far.inside'), '200');
  t.equal(await status('far.inside/forbidden'), '403', 'the policy names paths, too');
  t.equal(await status('near.inside', '-X', 'DELETE'), '200', 'a service without a waypoint is left alone');

  await app.lab.must(['apply', '-f', '-'], { input: toNear });
  const routed = await eventually(
    () => app.ask('one', 'far.inside/allowed/near'),
    (answer) => answer.startsWith('near'),
  );
  t.match(routed, /^near /u, 'a path goes to another service');
  t.match(await app.ask('one', 'far.inside'), /^far /u);

  const pid = async (): Promise<number | undefined> =>
    (await app.lab.state()).pods.find(({ name }) => name.startsWith('far-waypoint') || name === 'far-0')?.containers[0]?.process
      ?.pid;
  const before = await pid();
  t.ok(before, 'the waypoint is a pod');
  process.kill(before ?? 0, 'SIGKILL');
  t.not(await eventually(pid, (now) => now !== undefined && now !== before), before, 'a killed waypoint is started again');
  t.equal(await becomes('200', 'far.inside'), '200');
  t.equal(await status('far.inside', '-X', 'DELETE'), '403', 'and never fails open');

  const load = Array.from({ length: 3 }, () => app.lab.exec('inside', 'one', ['sh', '-c', LOAD]));
  await app.lab.must(['waypoint', 'delete', 'far', '--namespace', 'inside']);
  for (const { stdout } of await Promise.all(load)) t.match(stdout.trim(), /^\d+ 200$/u, 'no request is lost on the way');
  t.equal(await becomes('200', 'far.inside', '-X', 'DELETE'), '200', 'removed: back to L4');
});
