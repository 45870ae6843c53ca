// Which policies a workload must list by name: those that select it. Policies of a whole namespace or mesh need no list.
import type { Authorization } from '#shared/gen/istio/security/authorization_pb.ts';
import type { AuthorizationPolicy } from '#shared/kube/istio-api.ts';
import { MeshError } from '#shared/errors.ts';
import { objectKey } from '#shared/kube/object.ts';
import type { ObjectFault, ObjectKey } from '#shared/kube/object.ts';
import { matchesLabels } from '#shared/kube/selectors.ts';
import type { ObjectView } from '../store/store.ts';
import { hasSelector, translateAuthorization } from './authorization.ts';
import type { TranslatedPolicy } from './authorization.ts';
import { PeerModes } from './peer-authentication.ts';
import type { MeshSettings } from './settings.ts';

/** Everything about L4 policy in one state of the mesh. */
export class PolicyIndex {
  readonly authorizations: readonly Authorization[];
  readonly faults: readonly Omit<ObjectFault, 'where'>[];
  readonly #settings: MeshSettings;
  readonly #peers: PeerModes;
  readonly #selecting = new Map<string, AuthorizationPolicy[]>();
  readonly #byKey = new Map<ObjectKey, Authorization>();

  /** A policy that cannot be translated is a fault, and what `last` made of it stays. */
  constructor(objects: ObjectView, settings: MeshSettings, last?: PolicyIndex) {
    this.#settings = settings;
    this.#peers = new PeerModes(objects.list('PeerAuthentication'), settings);
    const authorizations: Authorization[] = [];
    const faults: Omit<ObjectFault, 'where'>[] = [];
    for (const policy of objects.list('AuthorizationPolicy')) {
      const key = objectKey(policy);
      const { authorization, problem } = translate(policy, settings, last && last.#byKey.get(key));
      if (problem) faults.push({ object: key, ...problem });
      if (!authorization) continue;
      this.#byKey.set(key, authorization);
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

function translate(policy: AuthorizationPolicy, settings: MeshSettings, last: Authorization | undefined): TranslatedPolicy {
  try {
    return translateAuthorization(policy, settings);
  } catch (error) {
    const problem = { field: 'spec', reason: `cannot be translated: ${MeshError.from(error).message}` };
    return last ? { authorization: last, problem } : { problem };
  }
}
