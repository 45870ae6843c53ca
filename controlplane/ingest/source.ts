// Where the objects come from. Folders of YAML now; whatever else is an ObjectSource joins here.
import type { Clock } from '#shared/clock.ts';
import { FolderSource } from '#shared/kube/folder-source.ts';
import type { ObjectSource } from '#shared/kube/object.ts';
import type { ControlPlaneConfig } from '../config.ts';

export function createSource(config: Pick<ControlPlaneConfig, 'objectDirs' | 'statusDir'>, clock: Clock): ObjectSource {
  return new FolderSource({ folders: config.objectDirs, statusFolder: config.statusDir, clock });
}
