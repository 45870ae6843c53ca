// Watches one folder for files of YAML: tells what was written and what is gone, after the writing has paused. Files are compared
// by size, inode and time of change; names that start with a dot are temporary files of writers.
import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Clock, Timer } from '../clock.ts';

/** A file that changed less than this ago may still be in the middle of being written: it is read again, ms. */
const YOUNG = 40;
/** Quiet time after an event before a scan, and the longest that events may put it off, ms. */
const QUIET = 30;
const LATEST = 100;
/** How often the folder is looked at without an event, which may have been lost, and while it is not there, ms. */
const CHECK = 10_000;
const CHECK_MISSING = 2000;
/**
 * How long files must be gone to be believed gone when the folder is empty, or was itself replaced by another: somebody may be in the
 * middle of moving, restoring or mounting them, and every policy of the mesh would be lifted meanwhile, ms.
 */
const DOUBT = 2000;
/** Larger files are refused: the configuration of a mesh is not that large. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

export type FileChange =
  | { readonly type: 'text'; readonly file: string; readonly written: bigint; readonly text: string }
  | { readonly type: 'unreadable'; readonly file: string; readonly reason: string }
  | { readonly type: 'gone'; readonly file: string };

export interface FolderHandler {
  onChanges(changes: FileChange[]): void;
  /** The folder cannot be read; what it said last stays. Undefined: it can again. */
  onFolderFault(reason: string | undefined): void;
}

export class FolderScanner {
  readonly folder: string;
  #clock: Clock;
  #handler: FolderHandler;
  /** File name to what it looked like when it was read. */
  #seen = new Map<string, string>();
  #watcher: FSWatcher | undefined;
  #inode: bigint | undefined;
  /** Since when (monotonic) the absence of files is doubted. */
  #doubted: number | undefined;
  #timer: Timer | undefined;
  #check: Timer | undefined;
  #firstEvent: number | undefined;
  #scanning = false;
  #again = false;
  #closed = false;
  #fault: string | undefined;

  constructor(folder: string, clock: Clock, handler: FolderHandler) {
    this.folder = folder;
    this.#clock = clock;
    this.#handler = handler;
  }

  /** Reads everything once, then goes on watching. */
  async start(): Promise<void> {
    await this.#scan();
    this.#checkLater();
  }

  close(): void {
    this.#closed = true;
    this.#watcher?.close();
    this.#timer?.cancel();
    this.#check?.cancel();
  }

  #checkLater(): void {
    this.#check?.cancel();
    if (this.#closed) return;
    this.#check = this.#clock.after(this.#fault === undefined ? CHECK : CHECK_MISSING, () => {
      void this.#scan().then(() => this.#checkLater());
    });
  }

  #onEvent(): void {
    const now = this.#clock.monotonic();
    this.#firstEvent ??= now;
    this.#scanAfter(Math.max(0, Math.min(QUIET, this.#firstEvent + LATEST - QUIET - now)));
  }

  #scanAfter(delay: number): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#timer = this.#clock.after(delay, () => {
      this.#firstEvent = undefined;
      void this.#scan();
    });
  }

  /** One scan at a time; what happens during one is looked at in the next. Never rejects. */
  async #scan(): Promise<void> {
    if (this.#scanning) {
      this.#again = true;
      return;
    }
    this.#scanning = true;
    try {
      await this.#rewatch();
      const names = (await readdir(this.folder)).filter((name) => /^[^.].*\.(ya?ml|json)$/u.test(name));
      this.#setFault(undefined);
      const changes = await this.#changes(names);
      if (changes.length > 0 && !this.#closed) this.#handler.onChanges(changes);
    } catch (error) {
      // The folder that comes next may be another one.
      this.#doubted = this.#clock.monotonic();
      this.#setFault((error as Error).message);
    }
    this.#scanning = false;
    if (this.#again) {
      this.#again = false;
      this.#scanAfter(0);
    }
  }

  async #changes(names: string[]): Promise<FileChange[]> {
    const changes: FileChange[] = [];
    const present = new Set<string>();
    let youngest = false;
    for (const file of names) {
      const full = path.join(this.folder, file);
      try {
        const { ino, size, mtimeNs, mtimeMs, ctimeNs } = await stat(full, { bigint: true });
        present.add(file);
        const look = `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
        if (this.#seen.get(file) === look) continue;
        if (size > MAX_FILE_BYTES) changes.push({ type: 'unreadable', file, reason: `is larger than ${MAX_FILE_BYTES} bytes` });
        else changes.push({ type: 'text', file, written: mtimeNs, text: await readFile(full, 'utf8') });
        const young = Math.abs(this.#clock.now() - Number(mtimeMs)) < YOUNG;
        this.#seen.set(file, young ? '' : look);
        youngest ||= young;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        present.add(file);
        this.#seen.set(file, '');
        changes.push({ type: 'unreadable', file, reason: `cannot be read: ${(error as Error).message}` });
      }
    }
    const gone = this.#seen
      .keys()
      .filter((file) => !present.has(file))
      .toArray();
    const doubt = gone.length > 0 ? this.#doubt(present.size === 0) : 0;
    if (youngest) this.#scanAfter(YOUNG);
    else if (doubt > 0) this.#scanAfter(doubt);
    if (doubt > 0) return changes;
    this.#doubted = undefined;
    for (const file of gone) {
      this.#seen.delete(file);
      changes.push({ type: 'gone', file });
    }
    return changes;
  }

  /** How much longer, ms, files that are gone are taken to come back. */
  #doubt(empty: boolean): number {
    const now = this.#clock.monotonic();
    if (empty) this.#doubted ??= now;
    return this.#doubted === undefined ? 0 : Math.max(0, this.#doubted + DOUBT - now);
  }

  /** A watch is of an inode: a folder that was replaced needs a new one. */
  async #rewatch(): Promise<void> {
    const { ino } = await stat(this.folder, { bigint: true });
    if (ino === this.#inode || this.#closed) return;
    this.#watcher?.close();
    this.#watcher = watch(this.folder, () => this.#onEvent());
    this.#watcher.on('error', () => (this.#inode = undefined));
    this.#watcher.unref();
    if (this.#inode !== undefined) this.#doubted = this.#clock.monotonic();
    this.#inode = ino;
  }

  #setFault(reason: string | undefined): void {
    if (reason === this.#fault || this.#closed) return;
    this.#fault = reason;
    this.#checkLater();
    this.#handler.onFolderFault(reason);
  }
}
