// Rules of the linter that hold the structure together, tried on files that break them.
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';

const root = resolve(import.meta.dirname, '..');

interface Finding {
  readonly code: string;
  readonly filename: string;
}

t.test('pointers stay in shared/os and shared/tls, and components apart', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-lint-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await copyFile(join(root, '.oxlintrc.json'), join(dir, '.oxlintrc.json'));
  const koffi = "import koffi from 'koffi';\nexport const library = koffi.load(null);\n";
  const memory = (path: string): string => `import { addressOf } from '${path}';\nexport const address = addressOf;\n`;
  const good = { 'shared/os/a.ts': koffi, 'shared/tls/b.ts': koffi + memory('../os/memory.ts') };
  const bad = {
    ...Object.fromEntries(
      ['ztunnel', 'waypoint', 'cni', 'controlplane', 'cli', 'bench'].map((folder) => [`${folder}/k.ts`, koffi]),
    ),
    'ztunnel/m.ts': memory('#shared/os/memory.ts'),
    'shared/reactor/native/n.ts': memory('../../os/memory.ts'),
    'shared/http2/o.ts': koffi,
    'shared/os/c.ts': "import { app } from '../../ztunnel/app.ts';\nexport const other = app;\n",
    'ztunnel/w.ts': "import { app } from '../waypoint/app.ts';\nexport const other = app;\n",
  };
  for (const [file, content] of Object.entries({ ...good, ...bad })) {
    await mkdir(join(dir, dirname(file)), { recursive: true });
    await writeFile(join(dir, file), content);
  }
  const oxlint = join(root, 'node_modules', '.bin', 'oxlint');
  // Without what the test runner has every child of node load, which oxlint cannot be loaded with.
  const argv = ['-u', 'NODE_OPTIONS', oxlint, '-f', 'json'];
  const output = await new Promise<string>((done) => execFile('env', argv, { cwd: dir }, (_error, stdout) => done(stdout)));
  const { diagnostics } = JSON.parse(output) as { diagnostics: Finding[] };
  const found = diagnostics.filter(({ code }) => code.includes('no-restricted-imports')).map(({ filename }) => filename);
  t.strictSame(found.toSorted(), Object.keys(bad).toSorted());
});
