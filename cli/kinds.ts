// The names that people give kinds: plural, singular, short.
import { MeshError } from '#shared/errors.ts';
import { KINDS } from '#shared/kube/kinds.ts';
import type { Kind } from '#shared/kube/kinds.ts';

/** As kubectl and istioctl abbreviate them. */
const SHORT: Partial<Record<Kind, string[]>> = {
  Namespace: ['ns'],
  Node: ['no'],
  ServiceAccount: ['sa'],
  ConfigMap: ['cm'],
  Pod: ['po'],
  Deployment: ['deploy'],
  Service: ['svc'],
  GatewayClass: ['gc'],
  Gateway: ['gtw'],
  AuthorizationPolicy: ['ap', 'policies', 'policy'],
  PeerAuthentication: ['pa'],
};

/** `gateways`, `policies`, `classes`. */
export function pluralOf(kind: Kind): string {
  const name = kind.toLowerCase();
  if (/[^aeiou]y$/u.test(name)) return `${name.slice(0, -1)}ies`;
  return name.endsWith('s') ? `${name}es` : `${name}s`;
}

const kinds = Object.keys(KINDS) as Kind[];

/** The plural of every kind. */
export const KIND_NAMES: readonly string[] = kinds.map(pluralOf);

export function kindNamed(text: string): { kind: Kind; namespaced: boolean } {
  const wanted = text.toLowerCase().split('.')[0] ?? '';
  const kind = kinds.find((candidate) =>
    [candidate.toLowerCase(), pluralOf(candidate), ...(SHORT[candidate] ?? [])].includes(wanted),
  );
  if (!kind) throw new MeshError('invalid_config', `"${text}" is no kind that the mesh reads: ${KIND_NAMES.join(', ')}`);
  return { kind, namespaced: KINDS[kind].namespaced };
}
