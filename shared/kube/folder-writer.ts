// ObjectWriter over folders: whole objects go to one folder, overlays of one writer to another. Every file is written beside its
// place and renamed, so that a reader never sees half of it; a file that would not change is left alone.
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stringify } from 'yaml';
import { objectFileName, overlayFileName, parseObjectKey } from './file-names.ts';
import { isKind, KINDS } from './kinds.ts';
import { objectKey } from './object.ts';
import type { KubeObject, ObjectKey, ObjectWriter } from './object.ts';
import { DELETED_ANNOTATION } from './validate.ts';

export interface FolderWriterOptions {
  /** OBJECT_WRITE_DIR. */
  folder: string;
  /** STATUS_DIR. */
  statusFolder: string;
  /** Part of the name of overlay files; no dots. */
  writer: string;
}

export class FolderWriter implements ObjectWriter {
  #options: FolderWriterOptions;
  /** Writes happen one after another, so that the last call wins. */
  #queue: Promise<void> = Promise.resolve();
  #count = 0;

  constructor(options: FolderWriterOptions) {
    this.#options = options;
  }

  apply(object: KubeObject): Promise<void> {
    return this.#write(path.join(this.#options.folder, objectFileName(objectKey(object))), object);
  }

  remove(key: ObjectKey): Promise<void> {
    return this.#enqueue(() => rm(path.join(this.#options.folder, objectFileName(key)), { force: true }));
  }

  /** Marks the object as deleted, which also hides it where another folder holds it. */
  hide(key: ObjectKey): Promise<void> {
    const { kind, namespace, name } = parseObjectKey(key);
    const apiVersion = isKind(kind) ? KINDS[kind].apiVersions[0] : 'v1';
    return this.apply({ apiVersion, kind, metadata: { name, namespace, annotations: { [DELETED_ANNOTATION]: 'true' } } });
  }

  overlay(key: ObjectKey, patch: Record<string, unknown> | undefined): Promise<void> {
    const file = path.join(this.#options.statusFolder, overlayFileName(key, this.#options.writer));
    return patch === undefined ? this.#enqueue(() => rm(file, { force: true })) : this.#write(file, patch);
  }

  #write(file: string, content: object): Promise<void> {
    return this.#enqueue(async () => {
      const text = stringify(clean(content), { aliasDuplicateObjects: false });
      if ((await readFile(file, 'utf8').catch(() => undefined)) === text) return;
      await mkdir(path.dirname(file), { recursive: true });
      const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.${this.#count++}.tmp`);
      try {
        await writeFile(temporary, text);
        await rename(temporary, file);
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
    });
  }

  #enqueue(task: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(task);
    this.#queue = done.catch(() => undefined);
    return done;
  }
}

/** Without an empty namespace, which a document of a cluster-scoped object must not have. */
function clean(content: object): object {
  const { metadata } = content as { metadata?: { namespace?: string } };
  if (metadata?.namespace !== '') return content;
  const { namespace: _, ...rest } = metadata;
  return { ...content, metadata: rest };
}
