// What the commands act on: today the lab of a run directory. They use this interface alone, so that a Kubernetes API server can
// take its place.
import { join, resolve } from 'node:path';
import { Option } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { FolderSource } from '#shared/kube/folder-source.ts';
import { FolderWriter } from '#shared/kube/folder-writer.ts';
import { Informer } from '#shared/kube/informer.ts';
import type { KubeObject, ObjectKey } from '#shared/kube/object.ts';
import { isRunning, readLabState } from './lab/state.ts';
import type { LabState } from './lab/state.ts';

export const DEFAULT_RUN_DIR = '/run/culvert';

export interface Cluster {
  /** Everything that is there, with the status that controllers gave it. */
  objects(): Promise<Informer>;
  /** The same without overlays: what a person wrote. */
  written(): Promise<Informer>;
  apply(object: KubeObject): Promise<void>;
  /** Removes it, also when a folder of the user still holds it. */
  remove(key: ObjectKey): Promise<void>;
  /** Takes back what apply() or remove() wrote: what the folders of the user say counts again. */
  unhide(key: ObjectKey): Promise<void>;
  readonly lab: LabState;
}

/** `--run-dir` of every command. */
export function runDirOption(): Option {
  return new Option('--run-dir <dir>', 'run directory of the lab').env('CULVERT_RUN_DIR').default(DEFAULT_RUN_DIR);
}

/** The running lab; throws with what to do when there is none. */
export async function openCluster(runDir: string): Promise<Cluster> {
  const dir = resolve(runDir);
  const lab = await readLabState(dir);
  if (!lab)
    throw new MeshError('not_found', `no lab runs in ${dir}: start one with culvert up DIR, or name another with --run-dir`);
  if (!(await isRunning(lab.lab)))
    throw new MeshError('not_found', `the lab in ${dir} has ended without cleaning up: culvert down removes it`);
  const writer = new FolderWriter({ folder: join(dir, 'objects'), statusFolder: lab.statusDir, writer: 'cli' });
  return {
    lab,
    objects: () => load(lab.objectDirs, lab.statusDir),
    written: () => load(lab.objectDirs),
    apply: (object) => writer.apply(object),
    remove: (key) => writer.hide(key),
    unhide: (key) => writer.remove(key),
  };
}

/** Read once: the view does not change any more. */
async function load(folders: readonly string[], statusFolder?: string): Promise<Informer> {
  const informer = new Informer(new FolderSource({ folders, statusFolder }));
  await informer.start();
  informer.close();
  return informer;
}
