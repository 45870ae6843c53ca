// The programs of the mesh as a few files in dist/: most of the start of a program is finding, reading and stripping some 400 modules, which
// a bundle does once (docs/decisions/0018-bundles.md).
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import type { OutputFile } from 'esbuild';

/** Entries, as they are called in the source; each keeps its place in dist/. */
const ENTRIES = [
  'controlplane/main.ts',
  'cni/agent/main.ts',
  'ztunnel/main.ts',
  'ztunnel/worker.ts',
  'waypoint/main.ts',
  'waypoint/worker.ts',
];

/** Packages of CommonJS ask for Node's own modules by `require`, which a module has not. */
const REQUIRE = `import { createRequire as culvertRequire } from 'node:module'; const require = culvertRequire(import.meta.url);`;

/** Paths of the package with their times of change, ms: what dist/ was made from, and by, and what it has. */
const RECORD = join('dist', 'record.json');
/** How it is made, and by which version of the bundler and of packages. */
const MAKERS = ['cli/build/bundle.ts', 'package-lock.json'];
/** Milliseconds for which chunks of before are kept: programs of other labs may be starting from them. */
const KEPT = 24 * 3_600_000;

/**
 * Brings dist/ in the package's folder up to date, and writes only what differs: programs of other labs start from it at the same time.
 * It stays readable: no names are shortened, and source maps are beside it (`NODE_OPTIONS=--enable-source-maps`). Rejects with what is wrong
 * in the source.
 */
export async function bundlePrograms(root: string, entryPoints: readonly string[] = ENTRIES): Promise<void> {
  if (await isBundled(root)) return;
  // Most commands of the CLI have no use for it.
  const { build } = await import('esbuild');
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: [...entryPoints],
    outdir: 'dist',
    outbase: '.',
    bundle: true,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    format: 'esm',
    platform: 'node',
    target: 'esnext',
    // Has a shared library beside it.
    external: ['koffi'],
    banner: { js: REQUIRE },
    sourcemap: 'linked',
    metafile: true,
    write: false,
    logLevel: 'silent',
  });
  // A program must never find the name of a file that is not there yet.
  const entries = outputFiles.filter(({ path }) => !path.includes('/chunks/'));
  await Promise.all(outputFiles.filter((file) => !entries.includes(file)).map(writeChanged));
  await Promise.all(entries.map(writeChanged));
  const outputs = outputFiles.map(({ path }) => relative(root, path));
  await removeOld(root, outputs);
  const paths = [...Object.keys(metafile.inputs), ...MAKERS, ...outputs];
  const record = await Promise.all(paths.map(async (path) => [path, await changedAt(root, path)] as const));
  await writeChanged({ path: join(root, RECORD), contents: Buffer.from(JSON.stringify(Object.fromEntries(record))) });
}

/** Whether dist/ is whole and nothing that it was made from has changed. */
export async function isBundled(root: string): Promise<boolean> {
  const text = await readFile(join(root, RECORD), 'utf8').catch(() => undefined);
  if (text === undefined) return false;
  const record = Object.entries(JSON.parse(text) as Record<string, number>);
  const same = await Promise.all(record.map(async ([path, before]) => (await changedAt(root, path)) === before));
  return same.every(Boolean);
}

async function removeOld(root: string, outputs: readonly string[]): Promise<void> {
  const folder = join('dist', 'chunks');
  const names = await readdir(join(root, folder)).catch(() => []);
  for (const path of names.map((name) => join(folder, name)))
    if (!outputs.includes(path) && Date.now() - (await changedAt(root, path)) > KEPT) await rm(join(root, path), { force: true });
}

/** ms; a file that is gone has none. */
async function changedAt(root: string, path: string): Promise<number> {
  const found = await stat(join(root, path)).catch(() => undefined);
  return found?.mtimeMs ?? 0;
}

async function writeChanged({ path, contents }: Pick<OutputFile, 'path' | 'contents'>): Promise<void> {
  const before = await readFile(path).catch(() => undefined);
  if (before?.equals(contents)) return;
  await mkdir(dirname(path), { recursive: true });
  const unfinished = `${path}.${randomUUID()}`;
  await writeFile(unfinished, contents);
  await rename(unfinished, path);
}
