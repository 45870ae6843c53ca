import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import { bundlePrograms, isBundled } from '../../../cli/build/bundle.ts';

const ROOT = resolve(import.meta.dirname, '..', '..', '..');

/** A package of two programs that share a module. */
function smallPackage(folder: string): (name: string, text: string) => void {
  const write = (name: string, text: string): void => {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), text);
  };
  write('package.json', JSON.stringify({ name: 'small', type: 'module', imports: { '#shared/*': './shared/*' } }));
  write('shared/greeting.ts', `export const greeting = (name: string): string => \`hello \${name}\`;`);
  write('one/main.ts', `import { greeting } from '#shared/greeting.ts'; console.log(greeting('one'));`);
  write('two/main.ts', `import { greeting } from '#shared/greeting.ts'; console.log(greeting('two'));`);
  return write;
}

const ENTRIES = ['one/main.ts', 'two/main.ts'];
const runs = (folder: string, file: string): string =>
  execFileSync(process.execPath, [join(folder, 'dist', file)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();

test('a bundle runs as its source does, and is made again only when that changed', async (t) => {
  const folder = t.testdir();
  const write = smallPackage(folder);
  t.equal(await isBundled(folder), false);
  await bundlePrograms(folder, ENTRIES);
  t.equal(await isBundled(folder), true);
  t.equal(runs(folder, 'one/main.js'), 'hello one');
  t.equal(runs(folder, 'two/main.js'), 'hello two');

  const long = new Date(1_000_000_000_000);
  utimesSync(join(folder, 'dist/two/main.js'), long, long);
  write('one/main.ts', `import { greeting } from '#shared/greeting.ts'; console.log(greeting('world'));`);
  utimesSync(join(folder, 'one/main.ts'), long, long);
  t.equal(await isBundled(folder), false);
  await bundlePrograms(folder, ENTRIES);
  t.equal(runs(folder, 'one/main.js'), 'hello world');
  t.equal(statSync(join(folder, 'dist/two/main.js')).mtimeMs, long.getTime(), 'what did not change is not written');

  rmSync(join(folder, 'dist/two/main.js'));
  t.equal(await isBundled(folder), false, 'so is what was taken away of it');
  const [old, recent] = ['old', 'recent'].map((name) => join(folder, 'dist/chunks', `${name}.js`));
  for (const path of [old, recent]) writeFileSync(path ?? '', '');
  utimesSync(old ?? '', long, long);
  await bundlePrograms(folder, ENTRIES);
  t.equal(runs(folder, 'two/main.js'), 'hello two');
  t.notOk(existsSync(old ?? ''), 'chunks of long ago go');
  t.ok(existsSync(recent ?? ''), 'a program may be starting from those of today');

  rmSync(join(folder, 'shared/greeting.ts'));
  t.equal(await isBundled(folder), false, 'an input that is gone counts as changed');
});

test('a fault of the source is named, and the bundle from before stays', async (t) => {
  const folder = t.testdir();
  const write = smallPackage(folder);
  await bundlePrograms(folder, ENTRIES);
  write('one/main.ts', `console.log('a';`);
  await t.rejects(bundlePrograms(folder, ENTRIES), /one\/main\.ts:1:15/u);
  t.equal(runs(folder, 'one/main.js'), 'hello one');
});

test('programs bundled at the same time do not see half a file', async (t) => {
  const folder = t.testdir();
  smallPackage(folder);
  await Promise.all([bundlePrograms(folder, ENTRIES), bundlePrograms(folder, ENTRIES), bundlePrograms(folder, ENTRIES)]);
  t.equal(runs(folder, 'one/main.js'), 'hello one');
});

test('the programs of the mesh start from their bundles', async (t) => {
  await bundlePrograms(ROOT);
  const env = { PATH: process.env['PATH'], XDS_ADDRESS: 'nonsense' };
  for (const [program, said] of [
    ['controlplane', 'OBJECT_DIRS is not set'],
    ['cni/agent', 'NODE_NAME is not set'],
    ['ztunnel', 'https://nonsense'],
    ['waypoint', 'POD_NAME is not set'],
  ] as const) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, 'dist', program, 'main.js')], {
      encoding: 'utf8',
      env,
    });
    t.equal(status, 1, `${program} ends`);
    t.match(`${stdout}${stderr}`, said, `${program} says what it lacks`);
  }
});
