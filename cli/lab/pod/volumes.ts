// A pod's volumes as folders of the machine: tokens and configuration are written here and mounted into the containers.
import { chmod, mkdir, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { MeshError } from '#shared/errors.ts';
import type { PodSpec } from '#shared/kube/kinds.ts';
import { podField } from './environment.ts';
import type { Container, EnvironmentContext } from './environment.ts';
import type { VolumeMount } from './launch-script.ts';

type Volume = NonNullable<PodSpec['volumes']>[number];
type Projection = NonNullable<NonNullable<Volume['projected']>['sources']>[number];
type KeyItem = { key: string; path: string };

/** A service-account token as the control plane gives it. */
export interface Token {
  token: string;
  /** Milliseconds since the epoch. */
  expires: number;
}

export interface VolumeContext extends EnvironmentContext {
  /** `pods/NAMESPACE--NAME/volumes` of the run directory. */
  dir: string;
  token(): Promise<Token>;
}

/** Writes every volume that has content. Returns when the earliest token expires, ms since the epoch; undefined without tokens. */
export async function writeVolumes(context: VolumeContext): Promise<number | undefined> {
  const expiries: number[] = [];
  for (const volume of context.pod.spec?.volumes ?? []) {
    const dir = join(context.dir, volume.name);
    if (!volume.hostPath) await mkdir(dir, { recursive: true });
    // Whoever a container runs as may write there, as in Kubernetes.
    if (volume.emptyDir) await chmod(dir, 0o777);
    if (volume.configMap) await writeItems(dir, configMapFiles(volume, volume.configMap, context));
    else if (volume.downwardAPI) await writeItems(dir, downwardFiles(volume, volume.downwardAPI.items, context));
    else if (volume.projected)
      for (const source of volume.projected.sources ?? []) await project(volume, source, dir, context, expiries);
    else if (!volume.emptyDir && !volume.hostPath)
      throw fault(volume, 'a lab has emptyDir, hostPath, configMap, downwardAPI and projected volumes');
  }
  return expiries.length === 0 ? undefined : Math.min(...expiries);
}

/** What to mount where in one container. */
export async function volumeMounts(container: Container, context: VolumeContext): Promise<VolumeMount[]> {
  return Promise.all(
    (container.volumeMounts ?? []).map(async (mount): Promise<VolumeMount> => {
      const volume = context.pod.spec?.volumes?.find(({ name }) => name === mount.name);
      if (!volume)
        throw new MeshError('invalid_config', `container ${container.name}: volumeMounts: there is no volume ${mount.name}`);
      const source = join(volume.hostPath?.path ?? join(context.dir, volume.name), inside(mount.subPath ?? ''));
      const kind = await stat(source).catch(() => undefined);
      if (!kind && volume.hostPath) throw fault(volume, `${source} does not exist on this machine`);
      if (!kind) await mkdir(source, { recursive: true });
      return { source, target: mount.mountPath, file: kind?.isFile() ?? false, readOnly: mount.readOnly === true };
    }),
  );
}

async function project(
  volume: Volume,
  source: Projection,
  dir: string,
  context: VolumeContext,
  expiries: number[],
): Promise<void> {
  if (source.serviceAccountToken) {
    const { token, expires } = await context.token();
    await writeItems(dir, { [source.serviceAccountToken.path]: token });
    expiries.push(expires);
  } else if (source.configMap) await writeItems(dir, configMapFiles(volume, source.configMap, context));
  else if (source.downwardAPI) await writeItems(dir, downwardFiles(volume, source.downwardAPI.items, context));
  else throw fault(volume, 'projected sources are serviceAccountToken, configMap and downwardAPI');
}

function configMapFiles(
  volume: Volume,
  reference: { name?: string; optional?: boolean; items?: KeyItem[] },
  context: VolumeContext,
): Record<string, string> {
  const { name = '', optional, items } = reference;
  const data = context.configMap(name)?.data;
  if (!data) {
    if (optional === true) return {};
    throw fault(volume, `ConfigMap ${context.pod.metadata.namespace}/${name} does not exist`);
  }
  if (!items) return data;
  return Object.fromEntries(
    items.map(({ key, path }) => {
      const value = data[key];
      if (value === undefined) throw fault(volume, `ConfigMap ${name} has no key ${key}`);
      return [path, value];
    }),
  );
}

function downwardFiles(
  volume: Volume,
  items: readonly { path: string; fieldRef?: { fieldPath: string } }[] | undefined,
  context: VolumeContext,
): Record<string, string> {
  return Object.fromEntries(
    (items ?? []).map(({ path, fieldRef }) => {
      const value = fieldRef && podField(fieldRef.fieldPath, context);
      if (value === undefined) throw fault(volume, `${path}: no such field: ${fieldRef?.fieldPath ?? 'fieldRef is missing'}`);
      return [path, value];
    }),
  );
}

/** By rename, so that a reader sees the old content or the new one. */
async function writeItems(dir: string, files: Record<string, string>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    const file = join(dir, inside(path));
    await mkdir(dirname(file), { recursive: true });
    await writeFile(`${file}.new`, content, { mode: 0o644 });
    await rename(`${file}.new`, file);
  }
}

/** A relative path that stays in its folder. */
function inside(path: string): string {
  const clean = normalize(path === '' ? '.' : path);
  if (clean.startsWith('..') || clean.startsWith('/')) throw new MeshError('invalid_config', `"${path}" leaves its volume`);
  return clean;
}

function fault(volume: Volume, reason: string): MeshError {
  return new MeshError('invalid_config', `volume ${volume.name}: ${reason}`);
}
