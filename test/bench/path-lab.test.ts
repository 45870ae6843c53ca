// The benchmark on a lab: a row comes out of it, and nothing stays of a run that was interrupted while it started.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { labId, netnsPrefix } from '../../cli/lab/plan.ts';
import { listNetns } from '../../cli/lab/net/netns.ts';
import type { Row } from '../../bench/path/rows.ts';

t.setTimeout(90_000);
type Tap = Pick<typeof t, 'teardown'>;

const main = resolve(import.meta.dirname, '..', '..', 'bench', 'main.ts');

async function startBench(t: Tap, args: readonly string[]): Promise<{ folder: string; child: ReturnType<typeof spawn> }> {
  const base = await mkdtemp(join(tmpdir(), 'culvert-bench-test-'));
  const folder = join(base, 'tmp');
  await mkdir(folder);
  const child = spawn(process.execPath, [main, 'path', ...args], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await rm(base, { recursive: true, force: true });
  });
  return { folder, child };
}

t.test('an interrupted start leaves nothing', async (t) => {
  const { folder, child } = await startBench(t, ['--rows', 'stalled']);
  const said = text(child.stderr!);
  let entry: string | undefined;
  let prefix = '';
  while (entry === undefined || (await listNetns(prefix)).length === 0) {
    await sleep(20);
    entry = (await readdir(folder))[0];
    prefix = netnsPrefix(labId(join(folder, entry ?? '', 'run')));
  }
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number];
  t.equal(code, 1);
  t.match(await said, /stopped by SIGTERM/u);
  t.same(await readdir(folder), [], 'no folders');
  t.same(await listNetns(prefix), [], 'no network namespaces');
});

t.test('stalled readers: rows, a picture, and nothing left', async (t) => {
  const { folder, child } = await startBench(t, [
    '--rows', 'stalled', '--rounds', '1', '--seconds', '1', '--json', '--svg', join(tmpdir(), `culvert-bench-${process.pid}.svg`),
  ]); // prettier-ignore
  t.teardown(() => rm(join(tmpdir(), `culvert-bench-${process.pid}.svg`), { force: true }));
  child.stderr!.resume();
  const rows = JSON.parse(await text(child.stdout!)) as Row[];
  t.same(
    rows.map(({ name }) => name),
    ['stalled readers slowest probe', 'stalled readers held each'],
  );
  for (const { value, bar, ok, limit } of rows) {
    t.ok(value !== null && value > 0 && value < 5000, `${value}`);
    t.match(bar, /^<= /u);
    t.equal(limit === undefined, ok, 'what is short says why');
  }
  t.match(await readFile(join(tmpdir(), `culvert-bench-${process.pid}.svg`), 'utf8'), /^<svg /u);
  t.same(await readdir(folder), []);
});
