// A file of revocation lists (`CRL_PATH`) and what it says now. Its folder is watched, because a mounted file is replaced and not written.
import { readFileSync, watch, type FSWatcher } from 'node:fs';
import path from 'node:path';
import { MeshError } from '../errors.ts';
import type { Revocations } from './revocation.ts';

/** Milliseconds of quiet after a change, so that a replacement in several steps is read once. */
const QUIET = 2000;

/**
 * Reads the file into `lists` now and after every change. What cannot be read or parsed is told to `onFault` and changes nothing. Dispose
 * to stop.
 */
export function followCrlFile(file: string, lists: Revocations, onFault: (error: MeshError) => void, quiet = QUIET): Disposable {
  let timer: NodeJS.Timeout | undefined;
  const fault = (thrown: unknown): void => {
    const { message } = MeshError.from(thrown);
    onFault(new MeshError('invalid_config', `CRL_PATH ${file}: ${message}`, { cause: thrown }));
  };
  const read = (): void => {
    try {
      lists.update(readFileSync(file));
    } catch (thrown) {
      fault(thrown);
    }
  };
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(path.dirname(file), () => {
      clearTimeout(timer);
      timer = setTimeout(read, quiet).unref();
    }).unref();
    watcher.on('error', fault);
  } catch (thrown) {
    fault(thrown);
  }
  read();
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      watcher?.close();
    },
  };
}
