// Which policies a workload must list by name: those that select it. Policies of a whole namespace or mesh need no list.
import type { Authorization } from '#shared/gen/istio/security/authorization_pb.ts';
import type { AuthorizationPolicy } from '#shared/kube/istio-api.ts';
import { objectKey } from '#shared/kube/object.ts';
import type { ObjectFault } from '#shared/kube/object.ts';
import { matchesLabels } from '#shared/kube/selectors.ts';
import type { ObjectView } from '../store/store.ts';
import { hasSelector, translateAuthorization } from './authorization.ts';
import { PeerModes } from './peer-authentication.ts';
import type { MeshSettings } from './settings.ts';

/** Everything about L4 policy in one state of the mesh. */
export class PolicyIndex {
  readonly authorizations: readonly Authorization[];
  readonly faults: readonly Omit<ObjectFault, 'where'>[];
  readonly #settings: MeshSettings;
  readonly #peers: PeerModes;
  readonly #selecting = new Map<string, AuthorizationPolicy[]>();

  constructor(objects: ObjectView, settings: MeshSettings) {
    this.#settings = settings;
    this.#peers = new PeerModes(objects.list('PeerAuthentication'), settings);
    const authorizations: Authorization[] = [];
    const faults: Omit<ObjectFault, 'where'>[] = [];
    for (const policy of objects.list('AuthorizationPolicy')) {
      const { authorization, problem } = translateAuthorization(policy, settings);
      if (problem) faults.push({ object: objectKey(policy), ...problem });
      if (!authorization) continue;
      authorizations.push(authorization);
      const { namespace } = policy.metadata;
      if (hasSelector(policy)) this.#selecting.set(namespace, [...(this.#selecting.get(namespace) ?? []), policy]);
    }
    this.authorizations = [...authorizations, ...this.#peers.authorizations()];
    this.faults = faults;
  }

  /** Sorted names: `NAMESPACE/NAME`. */
  policiesOf(namespace: string, labels: Record<string, string> | undefined): string[] {
    const own = this.#selecting.get(namespace) ?? [];
    const mesh = namespace === this.#settings.rootNamespace ? [] : (this.#selecting.get(this.#settings.rootNamespace) ?? []);
    const selected = [...own, ...mesh]
      .filter(({ spec }) => matchesLabels(spec?.selector?.matchLabels ?? {}, labels))
      .map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
    return [...selected.sort(), ...this.#peers.policiesOf(namespace, labels)];
  }
}
