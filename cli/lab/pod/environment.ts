// The environment, command and working folder of a container, from its spec: a pure function, as the kubelet computes it.
import { MeshError } from '#shared/errors.ts';
import type { ConfigMap, Pod, PodSpec } from '#shared/kube/kinds.ts';

export type Container = PodSpec['containers'][number];
type EnvVar = NonNullable<Container['env']>[number];

/** What is known of a pod only once it has a node and an address. */
export interface PodPlace {
  nodeName: string;
  hostIP: string;
  podIP: string;
}

export interface EnvironmentContext {
  pod: Pod;
  place: PodPlace;
  configMap(name: string): ConfigMap | undefined;
}

/** `base` is what every container gets; the container's own variables come after it and win. */
export function containerEnv(
  container: Container,
  base: Record<string, string>,
  context: EnvironmentContext,
): Record<string, string> {
  const env = { ...base, HOSTNAME: context.pod.spec?.hostname ?? context.pod.metadata.name };
  for (const [index, source] of (container.envFrom ?? []).entries()) {
    const name = source.configMapRef?.name;
    if (name === undefined) throw fault(container, `envFrom[${index}]`, 'only configMapRef is supported');
    const data = context.configMap(name)?.data;
    if (!data && source.configMapRef?.optional !== true)
      throw fault(container, `envFrom[${index}]`, `ConfigMap ${name} does not exist`);
    for (const [key, value] of Object.entries(data ?? {})) Object.assign(env, { [`${source.prefix ?? ''}${key}`]: value });
  }
  for (const [index, variable] of (container.env ?? []).entries()) {
    const value = variableValue(container, variable, `env[${index}]`, context);
    if (value !== undefined) Object.assign(env, { [variable.name]: expand(value, env) });
  }
  return env;
}

/** The argument vector; `culvertImage` answers for our own image, any other image needs a `command`. */
export function containerCommand(
  container: Container,
  env: Record<string, string>,
  culvertImage: (args: readonly string[]) => string[] | undefined,
): string[] {
  const args = (container.args ?? []).map((word) => expand(word, env));
  if (container.command && container.command.length > 0) return [...container.command.map((word) => expand(word, env)), ...args];
  const own = isCulvertImage(container.image) ? culvertImage(args) : undefined;
  if (own) return own;
  throw fault(
    container,
    'command',
    isCulvertImage(container.image)
      ? `image culvert has no program "${args.join(' ')}": use args [waypoint]`
      : `image ${container.image ?? ''} is not pulled here: pods of a lab run programs of this machine, so name one in command`,
  );
}

/** `culvert`, `culvert:TAG` or the same behind a registry. */
export function isCulvertImage(image: string | undefined): boolean {
  return image !== undefined && /^(.*\/)?culvert(:[\w.-]+)?$/u.test(image);
}

/** `$(NAME)` becomes the variable's value, `$$(NAME)` is the text itself; unknown names stay as they are. */
export function expand(text: string, env: Record<string, string>): string {
  return text.replaceAll(/\$?\$\(([\w.-]+)\)/gu, (match, name: string) =>
    match.startsWith('$$') ? match.slice(1) : (env[name] ?? match),
  );
}

/** A downward API field; undefined when there is no such field. */
export function podField(path: string, { pod, place }: EnvironmentContext): string | undefined {
  const keyed = /^metadata\.(labels|annotations)\['([^']+)'\]$/u.exec(path);
  if (keyed) return pod.metadata[keyed[1] as 'labels' | 'annotations']?.[keyed[2] ?? ''] ?? '';
  switch (path) {
    case 'metadata.name':
      return pod.metadata.name;
    case 'metadata.namespace':
      return pod.metadata.namespace;
    case 'metadata.uid':
      return pod.metadata.uid ?? '';
    case 'metadata.labels':
      return formatMap(pod.metadata.labels);
    case 'metadata.annotations':
      return formatMap(pod.metadata.annotations);
    case 'spec.nodeName':
      return place.nodeName;
    case 'spec.serviceAccountName':
      return serviceAccount(pod);
    case 'status.podIP':
    case 'status.podIPs':
      return place.podIP;
    case 'status.hostIP':
    case 'status.hostIPs':
      return place.hostIP;
    default:
      return undefined;
  }
}

export function serviceAccount(pod: Pod): string {
  return pod.spec?.serviceAccountName ?? 'default';
}

function variableValue(container: Container, variable: EnvVar, field: string, context: EnvironmentContext): string | undefined {
  const from = variable.valueFrom;
  if (!from) return variable.value ?? '';
  if (from.fieldRef) {
    const value = podField(from.fieldRef.fieldPath, context);
    if (value === undefined) throw fault(container, field, `no such field: ${from.fieldRef.fieldPath}`);
    return value;
  }
  if (from.configMapKeyRef) {
    const { name = '', key, optional } = from.configMapKeyRef;
    const value = context.configMap(name)?.data?.[key];
    if (value === undefined && optional !== true) throw fault(container, field, `ConfigMap ${name} has no key ${key}`);
    return value;
  }
  throw fault(container, field, 'valueFrom supports fieldRef and configMapKeyRef');
}

function formatMap(map: Record<string, string> | undefined): string {
  return Object.entries(map ?? {})
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

function fault(container: Container, field: string, reason: string): MeshError {
  return new MeshError('invalid_config', `container ${container.name}: ${field}: ${reason}`);
}
