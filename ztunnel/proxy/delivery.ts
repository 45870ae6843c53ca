// The last step of an inbound connection, however it came (tunnel, plaintext, or from a pod of the same node): policy, then a socket
// to the application that bears the client's address.
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { CancelScope, type CancelSignal } from '#shared/lifecycle/cancel.ts';
import type { Conn } from '#shared/reactor/api.ts';
import type { PolicyContext } from '../policy/match.ts';
import type { PoliciesInForce } from '../policy/policy-group.ts';
import { policyContext } from '../policy/match.ts';
import { evaluate } from '../policy/evaluate.ts';
import type { Workload } from '../state/model.ts';
import type { Pod, ProxyContext } from './pod.ts';
import { podSocket } from './pod.ts';

export interface DeliveryRequest {
  readonly workload: Workload;
  /** The TCP source: what policies see and what the application is shown. */
  readonly source: HostPort;
  /** Proved by the peer or, within the node, known of the source pod. */
  readonly identity: SpiffeId | undefined;
  /** Where the policies and the application see it go. */
  readonly to: HostPort;
  readonly originalDestination: string;
  readonly protocol: 'TCP' | 'HBONE';
}

/** An inbound connection that was let in. Dispose it at its end. */
export interface Admission extends Disposable {
  /** Ends when the connection must: a policy change, or the end of the pod. */
  readonly cancel: CancelSignal;
}

class Admitted implements Admission {
  readonly cancel: CancelScope;
  readonly #tracked: Disposable;

  constructor(cancel: CancelScope, tracked: Disposable) {
    this.cancel = cancel;
    this.#tracked = tracked;
  }

  [Symbol.dispose](): void {
    this.cancel[Symbol.dispose]();
    this.#tracked[Symbol.dispose]();
  }
}

export class Delivery {
  readonly #context: ProxyContext;
  readonly #pod: Pod;
  /** Names of missing policies that were told of: once each, not for every connection. */
  readonly #missing = new Set<string>();

  constructor(context: ProxyContext, pod: Pod) {
    this.#context = context;
    this.#pod = pod;
  }

  /** Tracks the connection and evaluates the policies; throws `policy_denied`. Tracked first, so that no policy change slips between. */
  admit(request: DeliveryRequest): Admission {
    const { tracker, trust } = this.#context;
    const { source, to: destination, identity } = request;
    const subject = policyContext({ source, destination, identity, spellings: identity && trust.spellings(identity) });
    const scope = new CancelScope(this.#pod.drain.cut);
    let asked: PoliciesInForce | undefined;
    const denial = (): string | undefined => {
      const policies = this.#inForce(request.workload);
      // Decided by the same ones before.
      if (policies === asked) return undefined;
      asked = policies;
      return this.#denial(request, subject, policies);
    };
    const tracked = tracker.add({
      pod: this.#pod.uid,
      direction: 'inbound',
      source: request.source,
      originalDestination: request.originalDestination,
      actualDestination: formatHostPort(request.to),
      protocol: request.protocol,
      recheck: () => (denial() === undefined ? undefined : policyChanged()),
      cut: (reason) => scope.cancel(reason),
    });
    const admitted = new Admitted(scope, tracked);
    const reason = denial();
    if (reason === undefined) return admitted;
    admitted[Symbol.dispose]();
    throw new MeshError('policy_denied', `connection closed due to policy rejection: ${reason}`);
  }

  /**
   * Opens the socket to the application; rejects with `connect_failed`, `connect_timeout`, or the reason of `cancel`. `redirected`: the
   * client's own connection goes to this address in this pod's network, so connection tracking must not take ours for its next one.
   */
  async connect(to: HostPort, source: HostPort, cancel: CancelSignal, redirected = false): Promise<Conn> {
    const { reactor } = this.#context;
    const options = { ...podSocket(this.#pod, this.#context), to, cancel };
    try {
      // The client's port is taken: its own connection to this address has it.
      return await reactor.connect(
        this.#spoofs(to, source) ? { ...options, from: { ip: source.ip, port: 0 }, beyondEphemeral: redirected } : options,
      );
    } catch (thrown) {
      const error = MeshError.from(thrown);
      throw new MeshError(error.code, `connection failed: ${error.message}`, { cause: thrown });
    }
  }

  /** The workload is looked up afresh: its list of policies may have changed. */
  #inForce(workload: Workload): PoliciesInForce {
    const { store, log } = this.#context;
    const policies = store.policies.forWorkload(store.workloads.get(workload.uid) ?? workload);
    for (const key of policies.unknown) {
      if (this.#missing.has(key)) continue;
      this.#missing.add(key);
      log.warn('a policy of the workload is not known here', { policy: key, workload: workload.uid });
    }
    return policies;
  }

  /** Why the policies refuse it, if they do. */
  #denial({ source, to }: DeliveryRequest, subject: PolicyContext, policies: PoliciesInForce): string | undefined {
    const { log, config } = this.#context;
    const { verdict, dryRun } = evaluate(policies, subject);
    const level = config.policyInfoLogging ? 'info' : 'debug';
    if (policies.groups.length === 0 || !log.enabled(level)) return verdict.allowed ? undefined : verdict.reason;
    const fields = { 'src.addr': formatHostPort(source), 'dst.addr': formatHostPort(to) };
    for (const note of dryRun) log[level](note, fields);
    if (verdict.by)
      log[level](verdict.allowed ? 'allow policy match' : 'deny policy match', {
        ...fields,
        policy: `${verdict.by.namespace}/${verdict.by.name}`,
      });
    return verdict.allowed ? undefined : verdict.reason;
  }

  /** A socket may not bear the address that it connects to. */
  #spoofs(to: HostPort, source: HostPort): boolean {
    return this.#pod.transparent && source.ip !== to.ip && source.ip.includes(':') === to.ip.includes(':');
  }
}

function policyChanged(): MeshError {
  return new MeshError('policy_changed', 'connection closed due to policy change');
}
