// The command line as a user meets it: help with examples everywhere, faults in words.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import t from 'tap';

const tool = resolve(import.meta.dirname, '..', '..', 'cli', 'culvert');
const run = (...args: string[]) => spawnSync(tool, args, { encoding: 'utf8', timeout: 30_000 });

t.test('every command has help with examples', async (t) => {
  const pending: string[][] = [[]];
  let seen = 0;
  for (let path = pending.shift(); path; path = pending.shift()) {
    const { status, stdout } = run(...path, '--help');
    t.equal(status, 0, path.join(' '));
    const commands = /Commands:\n([\s\S]*?)(\n\n|$)/u.exec(stdout)?.[1] ?? '';
    const names = [...commands.matchAll(/^ {2}([a-z][a-z-]*)/gmu)].flatMap(([, name = '']) => (name === 'help' ? [] : [name]));
    for (const name of names) pending.push([...path, name]);
    if (names.length === 0) t.match(stdout, /Examples:\n {2}culvert /u, path.join(' '));
    seen += 1;
  }
  t.ok(seen >= 20, `${seen} commands`);
});

t.test('faults are one readable message and a non-zero exit code', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-cli-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  t.match(run('get', 'pods', '--run-dir', dir), { status: 1, stderr: /no lab runs in .*: start one with culvert up/u });
  t.match(run('get', 'pods', '-o', 'xml'), { status: 1, stderr: /table, wide, json, yaml/u });
  t.match(run('get', 'gateways', '--run-dir', dir), { status: 1, stderr: /no lab runs/u }, 'the plural of a vowel and y');
  t.match(run('waypoint', 'generate', 'Bad_Name'), { status: 1, stderr: /metadata\.name: .*is not a name/u });
  t.match(run('get', 'unicorns', '--run-dir', dir), { status: 1, stderr: /"unicorns" is no kind that the mesh reads: .*pods/u });
  t.match(run('up', join(dir, 'nowhere'), '--run-dir', join(dir, 'run')), { status: 1, stderr: /nowhere cannot be read/u });
  t.match(run('fly'), { status: 1, stderr: /unknown command/u });
  t.match(run('waypoint', 'apply', '--for', 'everything'), {
    status: 1,
    stderr: /Allowed choices are service, workload, all, none/u,
  });
  mkdirSync(join(dir, 'objects'));
  t.match(run('down', '--run-dir', dir), { status: 0, stdout: /nothing runs/u });
  t.ok(existsSync(join(dir, 'objects')), 'a folder that is no run directory is left alone');
});
