// The benchmark as a command: rows, a picture and an exit code come out of it, and nothing stays of a run that was interrupted while it
// started.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
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
  for (const { value, bar, limit } of rows) {
    t.ok(value !== null && value > 0 && value < 5000, `${value}`);
    t.match(bar, /^<= /u);
    t.match(limit, /\S: \S/u, 'each says what limits it');
  }
  t.match(await readFile(join(tmpdir(), `culvert-bench-${process.pid}.svg`), 'utf8'), /^<svg /u);
  t.same(await readdir(folder), []);
});

t.test('the exit code is that of the rows; a picture is written unasked, and not with --no-svg', async (t) => {
  const run = async (args: readonly string[]): Promise<{ rows: Row[]; code: number; said: string }> => {
    const { child } = await startBench(t, ['--rows', 'tls handshake', '--rounds', '1', '--seconds', '1', '--json', ...args]);
    const exit = once(child, 'exit');
    const [said, json] = await Promise.all([text(child.stderr!), text(child.stdout!)]);
    return { rows: JSON.parse(json) as Row[], code: ((await exit) as [number])[0], said };
  };
  const { rows, code, said } = await run([]);
  t.equal(rows.length, 2);
  t.equal(code, rows.every(({ ok }) => ok) ? 0 : 1);
  const file = /the rows as a picture: (\S+)/u.exec(said)?.[1] ?? '';
  t.ok(file.endsWith(join('node_modules', '.cache', 'bench', 'path.svg')), file);
  t.match(await readFile(file, 'utf8'), /^<svg /u);
  const without = await run(['--no-svg']);
  t.notMatch(without.said, /picture/u);
});

t.test('beside another ztunnel: a second lab with the program that was named', async (t) => {
  const base = await mkdtemp(join(tmpdir(), 'culvert-bench-peer-'));
  t.teardown(() => rm(base, { recursive: true, force: true }));
  // Our own takes the part of the other one, started by a program of another name that leaves a trace.
  const [peer, trace] = [join(base, 'ztunnel'), join(base, 'started')];
  const ztunnel = resolve(import.meta.dirname, '..', '..', 'ztunnel', 'main.ts');
  await writeFile(peer, `#!/bin/sh\necho "$NODE_NAME" >> ${trace}\nexec ${process.execPath} --expose-gc ${ztunnel}\n`);
  await chmod(peer, 0o755);
  const { folder, child } = await startBench(t, [
    '--rows', 'same-node requests-16', '--peer-ztunnel', peer, '--rounds', '1', '--seconds', '1', '--json', '--no-svg',
  ]); // prettier-ignore
  child.stderr!.resume();
  const rows = JSON.parse(await text(child.stdout!)) as Row[];
  t.same(
    rows.map(({ name, peer }) => [name, peer]),
    [
      ['same-node requests-16', 'ztunnel'],
      ['same-node requests-16 against ztunnel', 'ztunnel'],
    ],
  );
  for (const { beside } of rows) {
    t.same(Object.keys(beside ?? {}), ['direct-near', 'nginx-near'], 'and without a proxy, and through one that only copies');
    for (const value of Object.values(beside ?? {})) t.ok(value > 0, `${value}`);
  }
  for (const { name, value, peerValue } of rows)
    t.ok((value ?? 0) > 100 && (peerValue ?? 0) > 100, `${name} ${value} ${peerValue}`);
  t.same(
    (await readFile(trace, 'utf8')).trim().split('\n').toSorted(),
    ['node-1', 'node-2'],
    'one on each node of its lab alone',
  );
  t.same(await readdir(folder), []);
});
