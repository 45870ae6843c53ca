// PeerAuthentication → policies that ztunnels enforce (facts: control plane 1.7). The kind itself is never sent: a workload that
// must have mTLS lists a DENY policy for callers without an identity.
import { create } from '@bufbuild/protobuf';
import { Action, AuthorizationSchema, Scope } from '#shared/gen/istio/security/authorization_pb.ts';
import type { Authorization } from '#shared/gen/istio/security/authorization_pb.ts';
import type { MtlsMode, PeerAuthentication } from '#shared/kube/istio-api.ts';
import { matchesLabels } from '#shared/kube/selectors.ts';
import { stringMatch } from './policy-values.ts';
import type { MeshSettings } from './settings.ts';

/** `_` is illegal in Kubernetes names, so these names are nobody else's. */
const STATIC_STRICT = 'istio_converted_static_strict';
const CONVERTED_PREFIX = 'converted_peer_authentication_';

/** Ports that differ from the rest of a workload. */
interface PortModes {
  readonly strict: readonly number[];
  readonly open: readonly number[];
}

export class PeerModes {
  readonly #settings: MeshSettings;
  readonly #mesh: MtlsMode;
  readonly #byNamespace = new Map<string, MtlsMode>();
  /** Oldest first; the first that selects a workload counts. */
  readonly #selecting = new Map<string, PeerAuthentication[]>();
  readonly #any: boolean;

  constructor(all: readonly PeerAuthentication[], settings: MeshSettings) {
    this.#settings = settings;
    this.#any = all.length > 0;
    let mesh: MtlsMode | undefined;
    for (const peer of [...all].sort(byAge)) {
      const { namespace } = peer.metadata;
      const mode = peer.spec?.mtls?.mode ?? 'UNSET';
      if (selects(peer)) {
        // Istio has no selector policies for the whole mesh.
        if (namespace !== settings.rootNamespace)
          this.#selecting.set(namespace, [...(this.#selecting.get(namespace) ?? []), peer]);
      } else if (namespace === settings.rootNamespace) mesh ??= mode;
      else if (!this.#byNamespace.has(namespace)) this.#byNamespace.set(namespace, mode);
    }
    this.#mesh = mesh === undefined || mesh === 'UNSET' ? 'PERMISSIVE' : mesh;
  }

  /** Names of the policies that a workload lists. */
  policiesOf(namespace: string, labels: Record<string, string> | undefined): string[] {
    const selecting = this.#selecting
      .get(namespace)
      ?.find((peer) => matchesLabels(peer.spec?.selector?.matchLabels ?? {}, labels));
    const converted = selecting && this.#convert(selecting);
    if (converted) return [`${namespace}/${converted.name}`];
    const strict = (selecting ? this.#topMode(selecting) : this.#inherited(namespace)) === 'STRICT';
    return strict ? [`${this.#settings.rootNamespace}/${STATIC_STRICT}`] : [];
  }

  /** Every policy that some workload may list. */
  authorizations(): Authorization[] {
    if (!this.#any) return [];
    const converted = [...this.#selecting.values()].flat().map((peer) => this.#convert(peer));
    return [staticStrict(this.#settings.rootNamespace), ...converted.filter((policy) => policy !== undefined)];
  }

  #inherited(namespace: string): MtlsMode {
    const own = this.#byNamespace.get(namespace) ?? 'UNSET';
    return own === 'UNSET' ? this.#mesh : own;
  }

  #topMode({ spec, metadata }: PeerAuthentication): MtlsMode {
    const mode = spec?.mtls?.mode ?? 'UNSET';
    return mode === 'UNSET' ? this.#inherited(metadata.namespace) : mode;
  }

  /** The policy for the ports that differ; undefined when none does. */
  #convert(peer: PeerAuthentication): Authorization | undefined {
    const { strict, open } = portModes(peer);
    const { name, namespace } = peer.metadata;
    const head = { name: `${CONVERTED_PREFIX}${name}`, namespace, scope: Scope.WORKLOAD_SELECTOR, action: Action.DENY };
    if (this.#topMode(peer) === 'STRICT') {
      if (open.length === 0) return undefined;
      const exceptions = open.map((port) => ({ matches: [{ notDestinationPorts: [port] }] }));
      return create(AuthorizationSchema, { ...head, groups: [{ rules: [{ matches: [anonymous()] }, ...exceptions] }] });
    }
    if (strict.length === 0) return undefined;
    return create(AuthorizationSchema, {
      ...head,
      groups: strict.map((port) => ({ rules: [{ matches: [{ ...anonymous(), destinationPorts: [port] }] }] })),
    });
  }
}

/** A policy with a selector that is about some workloads only. */
export function selects({ spec }: PeerAuthentication): boolean {
  return Object.keys(spec?.selector?.matchLabels ?? {}).length > 0;
}

/** Oldest first; those without an age by name. */
function byAge(a: PeerAuthentication, b: PeerAuthentication): number {
  const key = ({ metadata }: PeerAuthentication): string =>
    `${metadata.creationTimestamp ?? ''} ${metadata.namespace}/${metadata.name}`;
  return key(a) < key(b) ? -1 : 1;
}

function portModes({ spec }: PeerAuthentication): PortModes {
  const modes = Object.entries(spec?.portLevelMtls ?? {}).map(([port, { mode = 'UNSET' }]) => ({ port: Number(port), mode }));
  return {
    strict: modes.filter(({ mode }) => mode === 'STRICT').map(({ port }) => port),
    open: modes.filter(({ mode }) => mode === 'PERMISSIVE' || mode === 'DISABLE').map(({ port }) => port),
  };
}

/** A caller without an identity: not over mTLS. */
function anonymous(): { notPrincipals: ReturnType<typeof stringMatch>[] } {
  return { notPrincipals: [stringMatch('*')] };
}

function staticStrict(namespace: string): Authorization {
  return create(AuthorizationSchema, {
    name: STATIC_STRICT,
    namespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    groups: [{ rules: [{ matches: [anonymous()] }] }],
  });
}
