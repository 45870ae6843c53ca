// `culvert ztunnel` becomes the ztunnel: its process, its log, its exit code.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';

function culvert(t: Test, args: readonly string[], env: Record<string, string> = {}) {
  const child = spawn('cli/culvert', args, {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const said = new EventTarget();
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      said.dispatchEvent(new Event('more'));
    });
  const exit = once(child, 'exit').then(([code]) => code as number | null);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  const until = async (text: string): Promise<void> => {
    while (!output.includes(text)) await Promise.race([once(said, 'more'), exit.then(() => Promise.reject(new Error(output)))]);
  };
  return { child, exit, until, output: () => output };
}

t.test('--help shows how it is used', async (t) => {
  const { exit, output } = culvert(t, ['ztunnel', '--help']);
  t.equal(await exit, 0);
  for (const word of ['--takeover', '--workers', 'Examples:', 'LOCAL_XDS_PATH', 'docs/upgrade.md'])
    t.ok(output().includes(word), word);
});

/** The environment of a ztunnel that needs no control plane, on ports of its own. */
async function standalone(t: Test): Promise<Record<string, string>> {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-command-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'state.yaml'), 'workloads: []\n');
  return {
    NODE_NAME: 'node-1',
    XDS_ADDRESS: '',
    CA_ADDRESS: 'http://127.0.0.1:1',
    LOCAL_XDS_PATH: join(dir, 'state.yaml'),
    INPOD_UDS: join(dir, 'zds.sock'),
    ADMIN_PORT: '0',
    STATS_PORT: '0',
    READINESS_PORT: '0',
  };
}

t.test('runs as the process that was started, and ends with its signals', async (t) => {
  const { child, exit, until } = culvert(t, ['ztunnel'], await standalone(t));
  await until('admin_port');
  child.kill('SIGTERM');
  t.equal(await exit, 0);
});

for (const [workers, serving] of [
  ['2', 'backend="native" workers=2'],
  ['main', 'backend="native" workers=0'],
] as const)
  t.test(`--workers ${workers}: the environment comes after it, and the first line says who serves`, async (t) => {
    const env = { ...(await standalone(t)), ZTUNNEL_WORKER_THREADS: '1' };
    const { child, exit, until, output } = culvert(t, ['ztunnel', '--workers', workers], env);
    await until('admin_port');
    t.ok(output().includes(serving), output());
    child.kill('SIGTERM');
    t.equal(await exit, 0);
  });

t.test('--workers: what has no form of a number of threads is refused, and what is too much by the ztunnel', async (t) => {
  const env = await standalone(t);
  for (const [workers, reason] of [
    ['half', /--workers <n\|n%\|main>.*a share of the cores such as 50%/u],
    ['150%', /ZTUNNEL_WORKER_THREADS=\S*150%/u],
  ] as const) {
    const { exit, output } = culvert(t, ['ztunnel', '--workers', workers], env);
    t.equal(await exit, 1);
    t.match(output(), reason);
  }
});

t.test('a faulty environment is told, and the exit code passed on', async (t) => {
  const { exit, output } = culvert(t, ['ztunnel'], { PACKET_MARK: 'x', XDS_ADDRESS: '' });
  t.equal(await exit, 1);
  t.match(output(), /PACKET_MARK/u);
});
