// What a set of folders says, file by file: which of several documents counts, what overlays change, which last good state stays.
// No I/O: the scanner tells it what was read.
import { isDeepStrictEqual } from 'node:util';
import { expandDeployment, uidOf } from './expand.ts';
import type { Deployment, Pod } from './kinds.ts';
import { mergePatch } from './merge.ts';
import { objectKey } from './object.ts';
import type { KubeObject, ObjectEvent, ObjectFault, ObjectKey } from './object.ts';
import { isDeleted } from './validate.ts';
import type { ParsedFile, ParsedObject } from './yaml-file.ts';

interface Candidate extends ParsedObject {
  /** When its file was written, ns: the newest counts. */
  written: bigint;
}

interface FileState {
  candidates: Map<ObjectKey, Candidate>;
  faults: readonly ObjectFault[];
}

interface Overlay {
  key: ObjectKey;
  patch: Record<string, unknown>;
}

/** What an object was made of. */
interface Merged {
  readonly source: KubeObject;
  readonly patches: readonly unknown[];
  readonly object: KubeObject;
}

export class FolderState {
  /** By folder, in order, then by file name. */
  #folders = new Map<string, Map<string, FileState>>();
  /** Which file of a folder holds an object, so that a second one does not take it over. */
  #holders = new Map<string, string>();
  #overlays = new Map<string, Overlay>();
  #delivered = new Map<ObjectKey, KubeObject>();
  #places = new Map<ObjectKey, string>();
  #merged = new Map<ObjectKey, Merged>();
  #pods = new WeakMap<Deployment, readonly Pod[]>();
  #faults: readonly ObjectFault[] = [];

  constructor(folders: readonly string[]) {
    for (const folder of folders) this.#folders.set(folder, new Map());
  }

  setFile(folder: string, file: string, written: bigint, parsed: ParsedFile): void {
    const files = this.#folders.get(folder);
    const previous = files?.get(file)?.candidates ?? new Map<ObjectKey, Candidate>();
    const candidates = new Map(parsed.objects.map((object): [ObjectKey, Candidate] => [object.key, { ...object, written }]));
    for (const [key, candidate] of previous) {
      if (!candidates.has(key) && (parsed.unidentified || parsed.faultyKeys.has(key))) candidates.set(key, candidate);
    }
    files?.set(file, { candidates, faults: parsed.faults });
  }

  /** A file that cannot be read keeps what it said last. */
  setFileFault(folder: string, file: string, fault: ObjectFault): void {
    const files = this.#folders.get(folder);
    files?.set(file, { candidates: files.get(file)?.candidates ?? new Map(), faults: [fault] });
  }

  removeFile(folder: string, file: string): void {
    this.#folders.get(folder)?.delete(file);
  }

  /** Overlays of one object merge in the order of their file names. */
  setOverlay(file: string, overlay: Overlay | undefined): void {
    if (overlay) this.#overlays.set(file, overlay);
    else this.#overlays.delete(file);
  }

  get faults(): readonly ObjectFault[] {
    return this.#faults;
  }

  /** `FILE:LINE` of an object; of its Deployment for an expanded Pod. */
  locate(key: ObjectKey): string | undefined {
    return this.#places.get(key);
  }

  /** What changed since the last call, as one batch; the first time everything. */
  resolve(): ObjectEvent[] {
    const objects = this.#overlaid(this.#winners());
    const events: ObjectEvent[] = [];
    for (const key of this.#delivered.keys()) if (!objects.has(key)) events.push({ type: 'delete', key });
    for (const [key, object] of objects) {
      const before = this.#delivered.get(key);
      if (before !== undefined && isDeepStrictEqual(before, object)) objects.set(key, before);
      else events.push({ type: 'set', key, object });
    }
    this.#delivered = objects;
    return events;
  }

  /** Newest file per key across folders; inside a folder the file that held it first. */
  #winners(): Map<ObjectKey, Candidate> {
    const faults: ObjectFault[] = [];
    const winners = new Map<ObjectKey, Candidate>();
    const holders = new Map<string, string>();
    for (const [folder, files] of this.#folders) {
      const inFolder = new Map<ObjectKey, { candidate: Candidate; file: string }>();
      for (const [file, state] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
        faults.push(...state.faults);
        for (const [key, candidate] of state.candidates) {
          const other = inFolder.get(key);
          const takesOver = other !== undefined && this.#holders.get(`${folder}\n${key}`) === file;
          if (!other || takesOver) inFolder.set(key, { candidate, file });
          if (other) faults.push(duplicate(takesOver ? other.candidate : candidate, takesOver ? candidate : other.candidate));
        }
      }
      for (const [key, { candidate, file }] of inFolder) {
        holders.set(`${folder}\n${key}`, file);
        const other = winners.get(key);
        if (!other || candidate.written >= other.written) winners.set(key, candidate);
      }
    }
    this.#holders = holders;
    this.#faults = faults;
    return winners;
  }

  /** Winners with uid and overlays, and the Pods of Deployments. */
  #overlaid(winners: Map<ObjectKey, Candidate>): Map<ObjectKey, KubeObject> {
    const patches = new Map<ObjectKey, unknown[]>();
    for (const [, { key, patch }] of [...this.#overlays].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const list = patches.get(key);
      if (list) list.push(patch);
      else patches.set(key, [patch]);
    }
    const objects = new Map<ObjectKey, KubeObject>();
    const merged = new Map<ObjectKey, Merged>();
    this.#places.clear();
    const add = (key: ObjectKey, source: KubeObject, where: string): KubeObject => {
      this.#places.set(key, where);
      const next = merge(key, source, patches.get(key) ?? [], this.#merged.get(key));
      merged.set(key, next);
      objects.set(key, next.object);
      return next.object;
    };
    for (const [key, { object, where }] of winners) {
      if (isDeleted(object)) continue;
      const whole = add(key, object, where);
      if (whole.kind !== 'Deployment') continue;
      for (const pod of this.#podsOf(whole as Deployment)) {
        const podKey = objectKey(pod);
        if (!winners.has(podKey)) add(podKey, pod, where);
      }
    }
    this.#merged = merged;
    return objects;
  }

  #podsOf(deployment: Deployment): readonly Pod[] {
    let pods = this.#pods.get(deployment);
    if (!pods) {
      pods = expandDeployment(deployment);
      this.#pods.set(deployment, pods);
    }
    return pods;
  }
}

/** An object with its uid and overlays; the same one as `last` when nothing of it changed, so that unchanged objects cost nothing. */
function merge(key: ObjectKey, source: KubeObject, patches: readonly unknown[], last: Merged | undefined): Merged {
  const same = last?.source === source && last.patches.length === patches.length;
  if (same && patches.every((patch, index) => patch === last.patches[index])) return last;
  const named = { ...source, metadata: { uid: uidOf(key), ...source.metadata } };
  return { source, patches, object: patches.reduce<unknown>(mergePatch, named) as KubeObject };
}

function duplicate(ignored: Candidate, used: Candidate): ObjectFault {
  return { where: ignored.where, object: ignored.key, reason: `is in this folder twice; the one at ${used.where} is used` };
}
