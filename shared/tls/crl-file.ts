// A file of revocation lists (`CRL_PATH`) and what it says now. Its folder is watched, because a mounted file is replaced and not written.
import { readFileSync, watch, type FSWatcher } from 'node:fs';
import path from 'node:path';
import { systemClock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import type { Revocations } from './revocation.ts';

export interface FollowTimes {
  /** Milliseconds of quiet after a change, so that a replacement in several steps is read once. Default 2000. */
  readonly quiet?: number;
  /** Milliseconds after a change at which the file is read although its folder does not become quiet. Default 10,000. */
  readonly longest?: number;
  /** Milliseconds until a file or folder that is not there is looked for again. Default 5000. */
  readonly retry?: number;
}

/**
 * Reads the file into `lists` now and after every change. What cannot be read or parsed is told to `onFault` and changes nothing; a file
 * that is not there is awaited, and told of once. Dispose to stop.
 */
export function followCrlFile(
  file: string,
  lists: Revocations,
  onFault: (error: MeshError) => void,
  { quiet = 2000, longest = 10_000, retry = 5000 }: FollowTimes = {},
): Disposable {
  let timer: NodeJS.Timeout | undefined;
  let watcher: FSWatcher | undefined;
  let told: string | undefined;
  /** When the first change came that was not looked at yet. */
  let changed: number | undefined;
  const fault = (thrown: unknown): void => {
    const { message } = MeshError.from(thrown);
    if (message !== told) onFault(new MeshError('invalid_config', `CRL_PATH ${file}: ${message}`, { cause: thrown }));
    told = message;
  };
  const lookIn = (delay: number): void => {
    clearTimeout(timer);
    timer = setTimeout(look, delay).unref();
  };
  const onChange = (): void => {
    const now = systemClock.monotonic();
    changed ??= now;
    lookIn(Math.max(0, Math.min(quiet, changed + longest - now)));
  };
  const stop = (): void => {
    clearTimeout(timer);
    watcher?.close();
    watcher = undefined;
  };
  const look = (): void => {
    stop();
    changed = undefined;
    let text: Uint8Array;
    try {
      // Anew each time: the folder may have been replaced, and a watcher of one that is gone hears nothing. Before the file is read, so
      // that no change is missed.
      watcher = watch(path.dirname(file), onChange).unref();
      watcher.on('error', (error) => {
        fault(error);
        lookIn(retry);
      });
      text = readFileSync(file);
    } catch (thrown) {
      lookIn(retry);
      return fault(thrown);
    }
    told = undefined;
    try {
      lists.update(text);
    } catch (thrown) {
      fault(thrown);
    }
  };
  look();
  return { [Symbol.dispose]: stop };
}
