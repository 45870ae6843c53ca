// The last step of an inbound connection, however it came (tunnel, plaintext, or from a pod of the same node): policy, then a socket
// to the application that bears the client's address.
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { CancelScope, type CancelSignal } from '#shared/lifecycle/cancel.ts';
import type { Conn, SocketOptions } from '#shared/reactor/api.ts';
import type { PoliciesInForce } from '../policy/policy-group.ts';
import { policyContext } from '../policy/match.ts';
import { evaluate } from '../policy/evaluate.ts';
import type { Workload } from '../state/model.ts';
import type { TrackedConnection } from './connection-tracker.ts';
import type { Pod, ProxyContext } from './pod.ts';
import { podSocket } from './pod.ts';

/**
 * Source ports that are tried before the kernel chooses (decision 0012). With the most of them taken, each further one costs system calls and
 * finds as little: a client that opens and ends some hundred connections a second has them all waiting for their minute to pass.
 */
const PORTS_TRIED = { redirected: 4, others: 2 };

export interface DeliveryRequest {
  readonly workload: Workload;
  /** The TCP source: what policies see and what the application is shown. */
  readonly source: HostPort;
  /** Proved by the peer or, within the node, known of the source pod. */
  readonly identity: SpiffeId | undefined;
  /** Where the policies and the application see it go. */
  readonly to: HostPort;
  readonly originalDestination: HostPort;
  readonly protocol: 'TCP' | 'HBONE';
}

/** An inbound connection that was let in: ends when the connection must (a policy change, or the end of the pod). Dispose it at its end. */
export class Admission extends CancelScope implements TrackedConnection {
  readonly request: DeliveryRequest;
  readonly #delivery: Delivery;
  /** Those that decided last. */
  #asked: PoliciesInForce | undefined;

  constructor(delivery: Delivery, request: DeliveryRequest) {
    super(delivery.pod.drain.cut);
    this.request = request;
    this.#delivery = delivery;
    delivery.context.tracker.add(this);
  }

  get direction(): 'inbound' {
    return 'inbound';
  }

  get pod(): string {
    return this.#delivery.pod.uid;
  }

  get source(): HostPort {
    return this.request.source;
  }

  get originalDestination(): string {
    return formatHostPort(this.request.originalDestination);
  }

  get actualDestination(): string {
    return formatHostPort(this.request.to);
  }

  get protocol(): 'TCP' | 'HBONE' {
    return this.request.protocol;
  }

  recheck(): MeshError | undefined {
    return this.denial() === undefined ? undefined : policyChanged();
  }

  cut(reason: MeshError): void {
    this.cancel(reason);
  }

  /** Why the policies of this moment refuse it, if others than the last ones do. */
  denial(): string | undefined {
    const policies = this.#delivery.inForce(this.request.workload);
    if (policies === this.#asked) return undefined;
    this.#asked = policies;
    return this.#delivery.denial(this.request, policies);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#delivery.context.tracker.delete(this);
  }
}

export class Delivery {
  readonly context: ProxyContext;
  readonly pod: Pod;
  readonly #socket: SocketOptions;
  /** Better served under another address than not at all, unless it was told otherwise (ENABLE_ORIG_SRC). */
  readonly #onUnbound: ((error: MeshError) => void) | undefined;
  /** Names of missing policies that were told of: once each, not for every connection. */
  readonly #missing = new Set<string>();

  constructor(context: ProxyContext, pod: Pod) {
    this.context = context;
    this.pod = pod;
    this.#socket = podSocket(pod, context);
    const onUnbound = (error: MeshError): void =>
      context.log.warn('an application does not see the address of its client', { error });
    if (context.config.originalSource !== 'require') this.#onUnbound = onUnbound;
  }

  /** Tracks the connection and evaluates the policies; throws `policy_denied`. Tracked first, so that no policy change slips between. */
  admit(request: DeliveryRequest): Admission {
    const admission = new Admission(this, request);
    const reason = admission.denial();
    if (reason === undefined) return admission;
    admission[Symbol.dispose]();
    throw new MeshError('policy_denied', `connection closed due to policy rejection: ${reason}`);
  }

  /**
   * Opens the socket to the application; rejects with `connect_failed`, `connect_timeout`, or the reason of `cancel`. Connection
   * tracking must not take ours for the client's own: `redirected`, each has one to this address in this pod's network; others have when
   * the pod joins or leaves the mesh meanwhile. `bytesFollow`: the first ones are written at once.
   */
  connect(
    to: HostPort,
    source: HostPort,
    cancel: CancelSignal,
    { redirected = false, bytesFollow = false }: { redirected?: boolean; bytesFollow?: boolean } = {},
  ): Conn | Promise<Conn> {
    const { reactor } = this.context;
    const options = { ...this.#socket, to, cancel, bytesFollow };
    // The client's port is taken: its own connection to this address has it.
    const opened = reactor.dial(
      this.#spoofs(to, source)
        ? {
            ...options,
            from: { ip: source.ip, port: 0 },
            beyondEphemeral: redirected ? PORTS_TRIED.redirected : PORTS_TRIED.others,
            onUnbound: this.#onUnbound,
          }
        : options,
    );
    return opened instanceof Promise ? opened.catch(connectionFailed) : opened;
  }

  /** The workload is looked up afresh: its list of policies may have changed. */
  inForce(workload: Workload): PoliciesInForce {
    const { store, log } = this.context;
    const policies = store.policies.forWorkload(store.workloads.get(workload.uid) ?? workload);
    for (const key of policies.unknown) {
      if (this.#missing.has(key)) continue;
      this.#missing.add(key);
      log.warn('a policy of the workload is not known here', { policy: key, workload: workload.uid });
    }
    return policies;
  }

  /** Why the policies refuse it, if they do. */
  denial({ source, to, identity }: DeliveryRequest, policies: PoliciesInForce): string | undefined {
    if (policies.groups.length === 0) return undefined;
    const { log, config, trust } = this.context;
    const spellings = identity && trust.spellings(identity);
    const { verdict, dryRun } = evaluate(policies, policyContext({ source, destination: to, identity, spellings }));
    const level = config.policyInfoLogging ? 'info' : 'debug';
    if (!log.enabled(level)) return verdict.allowed ? undefined : verdict.reason;
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
    return this.pod.transparent && source.ip !== to.ip && source.ip.includes(':') === to.ip.includes(':');
  }
}

function connectionFailed(thrown: unknown): never {
  const error = MeshError.from(thrown);
  throw new MeshError(error.code, `connection failed: ${error.message}`, { cause: thrown });
}

function policyChanged(): MeshError {
  return new MeshError('policy_changed', 'connection closed due to policy change');
}
