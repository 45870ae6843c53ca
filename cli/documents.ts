// Kubernetes documents that a command is given with -f: files, folders, standard input.
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { MeshError } from '#shared/errors.ts';
import { KINDS } from '#shared/kube/kinds.ts';
import type { Kind } from '#shared/kube/kinds.ts';
import { formatFault } from '#shared/kube/object.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { Validator } from '#shared/kube/validate.ts';
import { parseFile } from '#shared/kube/yaml-file.ts';
import { FOLDER_ANNOTATION } from './lab/plan.ts';

export interface Documents {
  objects: KubeObject[];
  /** One line each. */
  faults: string[];
}

/** Reads every document of these files, folders (their YAML files, not deeper) or `-`. */
export async function readDocuments(sources: readonly string[]): Promise<Documents> {
  const validator = new Validator();
  const found: Documents = { objects: [], faults: [] };
  for (const { name, content, folder } of (await Promise.all(sources.map(readSource))).flat()) {
    const parsed = parseFile(content, name, validator);
    found.objects.push(...parsed.objects.map(({ object }) => withFolder(object, folder)));
    found.faults.push(...parsed.faults.map(formatFault));
  }
  return found;
}

/** `deployment.apps/web`, as kubectl names objects. */
export function shownName({ apiVersion, kind, metadata }: Pick<KubeObject, 'apiVersion' | 'kind' | 'metadata'>): string {
  const slash = apiVersion.indexOf('/');
  return `${kind.toLowerCase()}${slash < 0 ? '' : `.${apiVersion.slice(0, slash)}`}/${metadata.name}`;
}

/** The same without having the object. */
export function shownNameOf(kind: Kind, name: string): string {
  return shownName({ apiVersion: KINDS[kind].apiVersions[0] ?? 'v1', kind, metadata: { name, namespace: '' } });
}

interface Source {
  name: string;
  content: string;
  folder: string;
}

async function readSource(source: string): Promise<Source[]> {
  if (source === '-') return [{ name: 'standard input', content: await text(process.stdin), folder: process.cwd() }];
  const path = resolve(source);
  const kind = await stat(path).catch(() => undefined);
  if (!kind) throw new MeshError('not_found', `${source} does not exist`);
  if (!kind.isDirectory()) return [{ name: source, content: await readFile(path, 'utf8'), folder: dirname(path) }];
  const files = (await readdir(path)).filter((file) => /\.ya?ml$/u.test(file)).sort();
  return Promise.all(
    files.map(async (file) => ({ name: join(source, file), content: await readFile(join(path, file), 'utf8'), folder: path })),
  );
}

function withFolder(object: KubeObject, folder: string): KubeObject {
  if (object.kind === 'Pod') return { ...object, metadata: annotated(object.metadata, folder) };
  if (object.kind !== 'Deployment') return object;
  const spec = object.spec as { template?: { metadata?: KubeObject['metadata'] } };
  return { ...object, spec: { ...spec, template: { ...spec.template, metadata: annotated(spec.template?.metadata, folder) } } };
}

function annotated<M extends { annotations?: Record<string, string> }>(metadata: M | undefined, folder: string): M {
  return { ...(metadata as M), annotations: { [FOLDER_ANNOTATION]: folder, ...metadata?.annotations } };
}
