// Compiled code from one start of a program to the next: most of a start is reading, stripping and compiling some 400 modules.
import { enableCompileCache, flushCompileCache, getCompileCacheDir } from 'node:module';
import { dirname, join } from 'node:path';
import { packageRoot } from './package-root.ts';

/** Beside the packages: an image brings it along, filled by a start while it was built, and a read-only file system keeps it. */
const FOLDER = ['node_modules', '.cache', 'compile'];

/**
 * For what this thread imports from now on: call it first, and import the rest by `await import()`. NODE_COMPILE_CACHE names another folder and
 * NODE_DISABLE_COMPILE_CACHE=1 none, as for Node itself. A folder that cannot be written or made costs time and nothing else. What is in it
 * counts for the same text and the same Node alone.
 * Returns the folder in use, as NODE_COMPILE_CACHE for threads: one that has it in its environment finds its entry there as well, and loads
 * no compiler for it. Undefined: none.
 */
export function useCompileCache(): string | undefined {
  enableCompileCache(join(packageRoot(), ...FOLDER));
  const used = getCompileCacheDir();
  return used && dirname(used);
}

/** Writes what is new, with the functions that ran so far: when the start is over, and before a collection drops them. */
export function keepCompiled(): void {
  flushCompileCache();
}
