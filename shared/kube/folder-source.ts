// ObjectSource over folders of Kubernetes YAML (docs/seams.md, Objects): scans, keeps the state, tells what changed.
import { parse } from 'yaml';
import type { Clock } from '../clock.ts';
import { systemClock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { parseOverlayFileName } from './file-names.ts';
import { FolderScanner } from './folder-scan.ts';
import type { FileChange } from './folder-scan.ts';
import { FolderState } from './folder-state.ts';
import { formatFault } from './object.ts';
import type { ObjectEvent, ObjectFault, ObjectKey, ObjectSource } from './object.ts';
import { Validator } from './validate.ts';
import { parseFile } from './yaml-file.ts';

export interface FolderSourceOptions {
  /** OBJECT_DIRS, in order. */
  folders: readonly string[];
  /** STATUS_DIR: overlays. */
  statusFolder?: string | undefined;
  clock?: Clock;
}

export class FolderSource implements ObjectSource {
  #folders: readonly string[];
  #state: FolderState;
  #validator = new Validator();
  #scanners: FolderScanner[];
  /** Faults of folders that cannot be read and of overlays, by where they are. */
  #otherFaults = new Map<string, ObjectFault>();
  #toldFaults: string | undefined;
  #deliver: (() => void) | undefined;

  constructor({ folders, statusFolder, clock = systemClock }: FolderSourceOptions) {
    this.#folders = folders;
    this.#state = new FolderState(folders);
    this.#scanners = folders.map((folder) => this.#scanner(folder, clock, (change) => this.#applyObjects(folder, change)));
    if (statusFolder !== undefined)
      this.#scanners.push(this.#scanner(statusFolder, clock, (change) => this.#applyOverlay(statusFolder, change)));
  }

  /** Rejects when one of the folders cannot be read at first: a part of the objects must not pass for all of them. */
  async watch(onBatch: (events: ObjectEvent[]) => void, onFaults: (faults: readonly ObjectFault[]) => void): Promise<void> {
    await Promise.all(this.#scanners.map((scanner) => scanner.start()));
    const unread = this.#folders.map((folder) => this.#otherFaults.get(folder)).filter((fault) => fault !== undefined);
    if (unread.length > 0) {
      this.close();
      throw new MeshError('invalid_config', unread.map(formatFault).join('\n'));
    }
    let first = true;
    this.#deliver = (): void => {
      const events = this.#state.resolve();
      const faults = [...this.#otherFaults.values(), ...this.#state.faults];
      const text = JSON.stringify(faults);
      if (events.length > 0 || first) onBatch(events);
      if (text !== this.#toldFaults) onFaults(faults);
      this.#toldFaults = text;
      first = false;
    };
    this.#deliver();
  }

  locate(key: ObjectKey): string {
    return this.#state.locate(key) ?? this.#folders.join(':');
  }

  close(): void {
    this.#deliver = undefined;
    for (const scanner of this.#scanners) scanner.close();
  }

  #scanner(folder: string, clock: Clock, apply: (change: FileChange) => void): FolderScanner {
    return new FolderScanner(folder, clock, {
      onChanges: (changes) => {
        for (const change of changes) apply(change);
        this.#deliver?.();
      },
      onFolderFault: (reason) => {
        if (reason === undefined) this.#otherFaults.delete(folder);
        else this.#otherFaults.set(folder, { where: folder, reason });
        this.#deliver?.();
      },
    });
  }

  #applyObjects(folder: string, change: FileChange): void {
    const shown = this.#folders.length > 1 ? `${folder}/${change.file}` : change.file;
    if (change.type === 'gone') this.#state.removeFile(folder, change.file);
    else if (change.type === 'unreadable') this.#state.setFileFault(folder, change.file, { where: shown, reason: change.reason });
    else this.#state.setFile(folder, change.file, change.written, parseFile(change.text, shown, this.#validator));
  }

  /** An overlay that cannot be read leaves the one before it in place. */
  #applyOverlay(folder: string, change: FileChange): void {
    const where = `${folder}/${change.file}`;
    this.#otherFaults.delete(where);
    if (change.type === 'gone') return this.#state.setOverlay(change.file, undefined);
    const overlay = change.type === 'text' ? readOverlay(change.file, change.text) : change.reason;
    if (typeof overlay === 'string') this.#otherFaults.set(where, { where, reason: overlay });
    else this.#state.setOverlay(change.file, overlay);
  }
}

/** The overlay, or why there is none. */
function readOverlay(file: string, text: string): Parameters<FolderState['setOverlay']>[1] | string {
  const named = parseOverlayFileName(file);
  if (!named) return 'is not named KIND--NAMESPACE--NAME.WRITER.yaml';
  try {
    const patch: unknown = parse(text);
    if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return 'is not a mapping';
    return { key: named.key, patch: patch as Record<string, unknown> };
  } catch (error) {
    return `is not YAML: ${(error as Error).message}`;
  }
}
