// Compiled code from one start to the next: kept where it can be, and no matter where it cannot.
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';

const MODULE = new URL('../../../shared/lifecycle/compile-cache.ts', import.meta.url).href;
const PROGRAM = `
import { getCompileCacheDir } from 'node:module';
import { keepCompiled, useCompileCache } from '${MODULE}';
useCompileCache();
const { parseAddress } = await import('${new URL('../../../shared/grpc/address.ts', import.meta.url).href}');
keepCompiled();
console.log(parseAddress('istiod:1').target, getCompileCacheDir() ?? 'none');
process.kill(process.pid, 'SIGKILL');
`;

async function start(t: { teardown(end: () => unknown): void }, cache: (dir: string) => Record<string, string>) {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-cache-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'program.mjs'), PROGRAM);
  await writeFile(join(dir, 'file'), '');
  const env = { PATH: process.env['PATH'], ...cache(dir) };
  const run = promisify(execFile)(process.execPath, [join(dir, 'program.mjs')], { env });
  const { stdout } = await run.catch((killed: { stdout: string }) => killed);
  return { dir, said: stdout.trim() };
}

t.test('a killed process leaves what it had compiled', async (t) => {
  const { dir, said } = await start(t, (base) => ({ NODE_COMPILE_CACHE: join(base, 'cache') }));
  t.match(said, /^istiod:1 .*cache/u);
  const [version = ''] = await readdir(join(dir, 'cache'));
  t.ok((await readdir(join(dir, 'cache', version))).length > 0);
});

t.test('a folder that cannot be made costs nothing else', async (t) => {
  const { said } = await start(t, (base) => ({ NODE_COMPILE_CACHE: join(base, 'file', 'cache') }));
  t.match(said, /^istiod:1 /u);
});

t.test('switched off', async (t) => {
  t.equal((await start(t, () => ({ NODE_DISABLE_COMPILE_CACHE: '1' }))).said, 'istiod:1 none');
});
