// What was read, compiled and decoded on the way up would otherwise stay until the heap has grown again: 10 to 30 MB.
import { setFlagsFromString } from 'node:v8';

/**
 * Garbage, code that is not running and pages that became free, which V8 else keeps for some seconds more. Takes some 30 ms in a task of its
 * own; does nothing unless Node was started with --expose-gc. Of this thread only.
 */
export async function releaseAllMemory(): Promise<void> {
  await globalThis.gc?.({ type: 'major', flavor: 'last-resort', execution: 'async' });
}

/**
 * As above for the garbage of a burst: compiled code stays, or the next connections would be served by the interpreter. Only a collection of
 * the last resort lets the young generation shrink and free pages go; what it does to code is a flag, of the process, for as long as it takes.
 */
export async function releaseGarbage(): Promise<void> {
  setFlagsFromString('--no-flush-bytecode');
  try {
    await globalThis.gc?.({ type: 'major', flavor: 'last-resort', execution: 'async' });
  } finally {
    setFlagsFromString('--flush-bytecode');
  }
}

/** At once, before more memory is needed. */
export function collectGarbage(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync' });
}
