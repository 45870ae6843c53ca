// kill -9 of each component: new connections work again, open ones that do not pass it live, and down leaves nothing.
import { readdir } from 'node:fs/promises';
import t from 'tap';
import { eventually } from '../harness/lab.ts';
import { startMeshApp } from '../harness/mesh-app.ts';

t.test('every component may be killed', async (t) => {
  const app = await startMeshApp(t);
  t.match(await app.ask('one', 'far.inside'), /^far/u);
  const { system, id } = await app.lab.state();

  for (const { name, node } of system) {
    await t.test(`kill -9 of ${name}${node === undefined ? '' : ` on ${node}`}`, async (t) => {
      const of = async (): Promise<number | undefined> =>
        (await app.lab.state()).system.find((each) => each.name === name && each.node === node)?.process?.pid;
      const pid = await of();
      t.ok(pid);
      const held = name.includes('ztunnel')
        ? undefined
        : app.lab.exec('inside', 'one', ['sh', '-c', 'sleep 3 | node client.mjs echo far.inside']);
      await new Promise((resolve) => setTimeout(resolve, 400));
      process.kill(pid ?? 0, 'SIGKILL');
      const again = await eventually(of, (now) => now !== undefined && now !== pid, 10_000);
      t.not(again, pid, 'it is started again');
      for (const to of ['far.inside', 'near.inside', 'plain-far.outside']) {
        const answer = await eventually(
          () => app.ask('one', to),
          (text) => !text.startsWith('exit'),
          10_000,
        );
        t.match(answer, new RegExp(`^${to.split('.')[0] ?? ''} `, 'u'), `one reaches ${to}`);
      }
      if (held) {
        const last = JSON.parse((await held).stdout.trim().split('\n').at(-1) ?? '{}') as { failed: string | null };
        t.equal(last.failed, null, 'a connection that was open lives');
      }
      // A pod that comes now is in the mesh like any other.
      const late = `apiVersion: v1\nkind: Pod\nmetadata: { name: late, namespace: inside }\nspec: { nodeName: node-1, containers: [{ name: c, image: sh, command: [sleep, infinity] }] }\n`;
      await app.lab.must(['apply', '-f', '-'], { input: late });
      // It is enrolled before its container starts.
      await app.lab.must(['wait', 'enrolled', 'late', '-n', 'inside', '--timeout', '20s']);
      await app.lab.must(['wait', 'ready', 'late', '-n', 'inside', '--timeout', '20s']);
      t.match(await app.lab.exec('inside', 'late', ['curl', '-sS', '-m', '5', 'http://far.inside/']), {
        code: 0,
        stdout: /^far/u,
      });
      await app.lab.must(['delete', 'pod', 'late', '-n', 'inside']);
    });
  }

  await app.lab.must(['down']);
  t.same(
    (await readdir('/run/netns').catch(() => [])).filter((each) => each.startsWith(`culvert-${id}-`)),
    [],
    'no namespace is left',
  );
});
