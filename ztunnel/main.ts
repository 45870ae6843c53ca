// The process of a ztunnel: environment in, signals, exit code. The rest is imported when compiled code can come from the cache.
import { extname } from 'node:path';
import { useCompileCache } from '#shared/lifecycle/compile-cache.ts';

const folder = useCompileCache();
if (folder !== undefined) process.env['NODE_COMPILE_CACHE'] = folder;
const { runZtunnel } = await import('./process.ts');
// Beside this file, in the source as in a bundle.
const worker = new URL(`worker${extname(import.meta.filename)}`, import.meta.url);
await runZtunnel(process.env, process.argv.slice(2), worker);
