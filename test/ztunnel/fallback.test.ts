// Where the native backend cannot run, the portable one serves with a warning; who asked for the native one by name is told, and gets none.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';

t.setTimeout(60_000);

const root = resolve(import.meta.dirname, '..', '..');
/** In the environment, which data workers have too. */
const WITHOUT_TLS = { NODE_OPTIONS: `--import ${join(root, 'test', 'fixtures', 'without-openssl.ts')}` };

async function start(t: Test, more: Record<string, string>) {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-fallback-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'state.yaml'), 'workloads: []\n');
  const env = {
    PATH: process.env['PATH'],
    NODE_NAME: 'node-1',
    XDS_ADDRESS: '',
    CA_ADDRESS: 'http://127.0.0.1:1',
    LOCAL_XDS_PATH: join(dir, 'state.yaml'),
    INPOD_UDS: join(dir, 'zds.sock'),
    ADMIN_PORT: '0',
    STATS_PORT: '0',
    READINESS_PORT: '0',
    ...more,
  };
  const child = spawn(process.execPath, [join(root, 'ztunnel', 'main.ts')], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = once(child, 'exit').then(([code]) => code as number | null);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const until = async (text: string): Promise<void> => {
    for (let ended = false; !output.includes(text) && !ended;)
      ended = await Promise.race([exit.then(() => true), new Promise<boolean>((done) => setTimeout(done, 20, false))]);
  };
  return { exit, until, output: () => output };
}

for (const threads of ['main', '1'])
  t.test(`no TLS in the binary, connections served by ${threads}`, async (t) => {
    const { until, output } = await start(t, { ...WITHOUT_TLS, ZTUNNEL_WORKER_THREADS: threads });
    await until('admin_port');
    t.match(output(), /started\s.*backend="portable"/u);
    t.match(output(), /Warning: the native backend cannot run here: Cannot find function '.+; the slower portable one serves/u);
  });

t.test('with it there is no warning', async (t) => {
  const { until, output } = await start(t, {});
  await until('admin_port');
  t.match(output(), /started\s.*backend="native"/u);
  t.notMatch(output(), /cannot run here/u);
});

for (const threads of ['main', '1'])
  t.test(`the native backend was asked for by name, served by ${threads}`, async (t) => {
    const env = { ...WITHOUT_TLS, CULVERT_BACKEND: 'native', ZTUNNEL_WORKER_THREADS: threads };
    const { exit, output } = await start(t, env);
    const code = await Promise.race([exit, new Promise<string>((done) => setTimeout(done, 10_000, 'it runs'))]);
    t.equal(code, 1, output());
    t.match(output(), /the native backend cannot run here: Cannot find function '/u);
  });
