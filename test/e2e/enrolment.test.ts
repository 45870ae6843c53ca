// Joining and leaving the mesh by label: nothing that is open breaks.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import type { Outcome } from '../harness/lab.ts';
import { logged, startMeshApp } from '../harness/mesh-app.ts';

const NOT_ENROLLED = ', labels: { istio.io/dataplane-mode: ambient }';

t.test('connections live across enrolment, and across its end', async (t) => {
  const app = await startMeshApp(t, (objects) => objects.replace(NOT_ENROLLED, ''));
  const hold = (seconds: number): Promise<Outcome>[] =>
    ['far', 'near'].map((to) =>
      app.lab.exec('inside', 'one', ['sh', '-c', `sleep ${seconds} | node client.mjs echo ${to}.inside`]),
    );
  const held = hold(9);
  await sleep(1000);
  const before = await app.lab.must(['get', 'pods', '-n', 'inside', '-o', 'json']);

  await app.lab.must(['label', 'namespace', 'inside', 'istio.io/dataplane-mode=ambient']);
  await app.lab.must(['wait', 'enrolled', '-n', 'inside', '--timeout', '20s']);
  t.match(await app.ask('one', 'far.inside'), /^far/u);
  t.ok(
    await logged(app, 'node-2', 'src.identity="spiffe://cluster.local/ns/inside/sa/one"', 'direction="inbound"'),
    'new connections are mTLS',
  );
  await livedOn(t, held, 100);
  const restarts = (text: string): unknown =>
    (JSON.parse(text) as { items: { status: { containerStatuses: { restartCount: number }[] } }[] }).items.map(
      ({ status }) => status.containerStatuses[0]?.restartCount,
    );
  t.same(restarts(await app.lab.must(['get', 'pods', '-n', 'inside', '-o', 'json'])), restarts(before), 'no pod was restarted');

  const inTheMesh = hold(7);
  await sleep(1000);
  await app.lab.must(['label', 'namespace', 'inside', 'istio.io/dataplane-mode-']);
  const left = await app.lab.culvert(['wait', 'unenrolled', '-n', 'inside', '--timeout', '20s']);
  t.equal(left.code, 0, left.stderr);
  await sleep(500);
  const lines = (await app.accessLog('node-2')).length;
  t.match(await app.ask('one', 'far.inside'), /^far/u);
  await sleep(300);
  t.equal((await app.accessLog('node-2')).length, lines, 'new connections pass no ztunnel any more');
  await livedOn(t, inTheMesh, 50);
});

t.test('no new connection is refused while pods join and leave', async (t) => {
  const app = await startMeshApp(t, (objects) => objects.replace(NOT_ENROLLED, ''));
  for (const label of ['istio.io/dataplane-mode=ambient', 'istio.io/dataplane-mode-']) {
    const clients = [
      ['inside', 'one', 'far.inside'],
      ['inside', 'one', 'near.inside'],
      ['outside', 'plain', 'far.inside'],
    ].map(([namespace = '', from = '', to]) =>
      app.lab.exec(namespace, from, ['sh', '-c', `sleep 5 | node client.mjs connections ${to}`]),
    );
    await sleep(1500);
    await app.lab.must(['label', 'namespace', 'inside', label]);
    for (const { stdout } of await Promise.all(clients)) {
      const { answered = 0, ...others } = JSON.parse(stdout) as Record<string, number>;
      t.same(others, {}, label);
      t.ok(answered > 30, `${answered} connections`);
    }
  }
});

/** Each connection echoed to its end. */
async function livedOn(t: Test, held: readonly Promise<Outcome>[], least: number): Promise<void> {
  for (const outcome of await Promise.all(held)) {
    const last = JSON.parse(outcome.stdout.trim().split('\n').at(-1) ?? '{}') as { replies: number; failed: string | null };
    t.equal(last.failed, null, 'what was open before lives on');
    t.ok(last.replies > least, `${last.replies} answers`);
  }
}
