// Memory that a process has and does not use, given back to the kernel.
import { readFileSync } from 'node:fs';
import koffi, { type LibraryHandle } from 'koffi';
import { overlapsKnown } from './known-memory.ts';
import { MADV_DONTNEED } from './layout.ts';
import { checked } from './pointer-check.ts';

/** The smallest that either architecture has. */
const PAGE = 4096;

/** mallopt(3): how much of the end of a thread's memory may be free before malloc gives it back. */
const M_TRIM_THRESHOLD = -1;
const TRIM_THRESHOLD = 256 * 1024;

interface Mapping {
  readonly start: number;
  readonly end: number;
}

/**
 * What malloc has free, of all threads of this process: where arrays were before they were collected. Pages between those in use stay with
 * malloc otherwise; 2000 connections that came at once left 16 MB there. Some milliseconds.
 */
export function trimMalloc(): void {
  const library = koffi.load(null);
  // Another libc than glibc has no such call and keeps less.
  if (hasSymbol(library, 'malloc_trim')) library.func('int malloc_trim(size_t)')(0);
}

/**
 * From now on malloc gives the free end of each thread's memory back by itself. Otherwise it keeps up to twice the largest block that was ever
 * freed, and malloc_trim() leaves that of all threads but the first: threads of V8's that compiled or collected once keep a megabyte each.
 */
export function keepMallocTrimmed(): void {
  const library = koffi.load(null);
  if (hasSymbol(library, 'mallopt')) library.func('int mallopt(int, int)')(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
}

/**
 * Drops from this process the pages of files that it maps and never writes: code and constants of Node of which most ran once. What runs
 * again comes back from the page cache, 16 pages a fault. Some 10 ms, and 30 MB of RSS in a process that has just started; anybody else who
 * maps the same files keeps what it has.
 */
export function giveBackMemory(): void {
  const { madvise } = memoryCalls();
  for (const { start, end } of unwrittenMappings(readFileSync('/proc/self/smaps', 'utf8')))
    madvise(start, end - start, MADV_DONTNEED);
}

interface MemoryCalls {
  readonly madvise: (start: number, length: number, advice: number) => number;
}

/** With what the pointers are checked for: advice to drop pages means whole ones, and none of memory that is in use. */
export function memoryCalls(library: LibraryHandle = koffi.load(null)): MemoryCalls {
  const calls: MemoryCalls = { madvise: library.func('int madvise(size_t, size_t, int)') };
  return checked(
    calls,
    { madvise: 'address' },
    {
      madvise(fail, _call, start, length) {
        if (start % PAGE !== 0) fail(1, `${start} is not the start of a page`);
        if (!Number.isSafeInteger(length) || length <= 0) fail(2, `${length} is no length`);
        if (overlapsKnown(start, length)) fail(1, `there are arrays in the ${length} bytes at ${start}`);
      },
    },
  );
}

/**
 * The mappings of files, from /proc/PID/smaps, that cannot be written and have no page of their own: a page that was changed (a relocation,
 * a breakpoint) exists nowhere else.
 */
export function unwrittenMappings(smaps: string): Mapping[] {
  const found: Mapping[] = [];
  for (const entry of smaps.split(/^(?=[\da-f]+-[\da-f]+ )/mu)) {
    const [, start = '', end = ''] = /^([\da-f]+)-([\da-f]+) r-[-x]p \S+ \S+ \d+ +\//u.exec(entry) ?? [];
    if (start !== '' && /^Anonymous: +0 kB$/mu.test(entry))
      found.push({ start: Number.parseInt(start, 16), end: Number.parseInt(end, 16) });
  }
  return found;
}

function hasSymbol(library: LibraryHandle, name: string): boolean {
  try {
    library.symbol(name);
    return true;
  } catch {
    return false;
  }
}
