// Joining and leaving the mesh by label: nothing that is open breaks.
import t from 'tap';
import { logged, startMeshApp } from '../harness/mesh-app.ts';

t.test('connections live across enrolment', async (t) => {
  const app = await startMeshApp(t, (objects) => objects.replace(', labels: { istio.io/dataplane-mode: ambient }', ''));
  const held = ['far', 'near'].map((to) =>
    app.lab.exec('inside', 'one', ['sh', '-c', `sleep 9 | node client.mjs echo ${to}.inside`]),
  );
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const before = await app.lab.must(['get', 'pods', '-n', 'inside', '-o', 'json']);

  await app.lab.must(['label', 'namespace', 'inside', 'istio.io/dataplane-mode=ambient']);
  await app.lab.must(['wait', 'enrolled', '-n', 'inside', '--timeout', '20s']);
  t.match(await app.ask('one', 'far.inside'), /^far/u);
  t.ok(
    await logged(app, 'node-2', 'src.identity="spiffe://cluster.local/ns/inside/sa/one"', 'direction="inbound"'),
    'new connections are mTLS',
  );

  for (const outcome of await Promise.all(held)) {
    const last = JSON.parse(outcome.stdout.trim().split('\n').at(-1) ?? '{}') as { replies: number; failed: string | null };
    t.equal(last.failed, null, 'what was open before lives on');
    t.ok(last.replies > 100, `${last.replies} answers`);
  }
  const restarts = (text: string): unknown =>
    (JSON.parse(text) as { items: { status: { containerStatuses: { restartCount: number }[] } }[] }).items.map(
      ({ status }) => status.containerStatuses[0]?.restartCount,
    );
  t.same(restarts(await app.lab.must(['get', 'pods', '-n', 'inside', '-o', 'json'])), restarts(before), 'no pod was restarted');

  await app.lab.must(['label', 'namespace', 'inside', 'istio.io/dataplane-mode-']);
  const left = await app.lab.culvert(['wait', 'unenrolled', '-n', 'inside', '--timeout', '20s']);
  t.equal(left.code, 0, left.stderr);
  const lines = (await app.accessLog('node-2')).length;
  t.match(await app.ask('one', 'far.inside'), /^far/u);
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal((await app.accessLog('node-2')).length, lines, 'new connections pass no ztunnel any more');
});
