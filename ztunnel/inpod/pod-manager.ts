// Which pods this ztunnel serves. Follows the requests of the CNI agent: each pod gets its listeners, loses them, and a snapshot
// tells which of the pods served from an earlier session are gone (facts: ztunnel 2).
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { closeFd, netnsIdentity } from '#shared/os/netns.ts';
import type { NetnsFd } from '#shared/reactor/api.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Family, Metrics } from '#shared/telemetry/metrics.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { ZdsRequest } from './zds-messages.ts';

/** The listeners of one pod. */
export interface PodProxy {
  /** Stops accepting; connections may last `deadline` ms, 0 drops them. */
  stop(deadline: number): Promise<void>;
}

/** Binds the listeners of a pod; rejects when a port is taken or the namespace is gone. Does not own `netns`. */
export type StartPod = (uid: string, who: PodIdentity, netns: NetnsFd) => Promise<PodProxy>;

interface ServedPod {
  readonly who: PodIdentity;
  /** Undefined: that of this process. */
  readonly netns: NetnsFd;
  /** What tells the namespace apart, whatever descriptor it came by. */
  readonly netnsId: string;
  /** Undefined while it could not be started yet. */
  proxy: PodProxy | undefined;
}

const RETRY_DELAY = 5000;

export interface PodManagerDeps {
  readonly start: StartPod;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface PodState {
  readonly uid: string;
  readonly who: PodIdentity;
  readonly state: 'Up' | 'Pending';
}

export class PodManager {
  readonly #deps: PodManagerDeps;
  readonly #started: Family;
  readonly #stopped: Family;
  readonly #retries: Family;
  #pods = new Map<string, ServedPod>();
  /** Pods named since the session began; undefined once the snapshot is complete. */
  #snapshot: Set<string> | undefined = new Set();
  #stopping = new Set<Promise<void>>();
  #retry: Timer | undefined;
  #handedOver = false;
  /** One request at a time, retries among them: a namespace must not be closed while its listeners are being bound. */
  #last: Promise<unknown> = Promise.resolve();
  /** Called when pods start or cease to be pending. */
  onPending: () => void = () => undefined;

  constructor(deps: PodManagerDeps) {
    this.#deps = deps;
    const { metrics } = deps;
    this.#started = metrics.counter('workload_manager_proxies_started_total', 'Pods whose listeners were started');
    this.#stopped = metrics.counter('workload_manager_proxies_stopped_total', 'Pods whose listeners were stopped');
    this.#retries = metrics.counter(
      'culvert_pod_start_retries_total',
      'Further attempts to start listeners that could not be started',
    );
    const count = (up: boolean) => (family: Family) => {
      family.cell().value = this.list().filter(({ state }) => (state === 'Up') === up).length;
    };
    metrics.gauge('workload_manager_active_proxy_count', 'Pods that are served', [], count(true));
    metrics.gauge('workload_manager_pending_proxy_count', 'Pods whose listeners could not be started yet', [], count(false));
  }

  list(): PodState[] {
    return [...this.#pods].map(([uid, { who, proxy }]) => ({ uid, who, state: proxy ? 'Up' : 'Pending' }));
  }

  get hasPending(): boolean {
    return [...this.#pods.values()].some(({ proxy }) => !proxy);
  }

  get snapshotReceived(): boolean {
    return this.#snapshot === undefined;
  }

  /** A new session: running pods stay up until its snapshot is complete. */
  beginSession(): void {
    this.#snapshot = new Set();
  }

  /** Carries out a request; rejects with what the agent is told. A protocol_error is the session's end, anything else only a refusal. */
  handle(request: ZdsRequest): Promise<void> {
    return this.#inTurn(() => this.#handle(request));
  }

  /** Serves a pod that no agent tells of, in the network namespace of this process; rejects when a port is taken. */
  serveOwn(uid: string, who: PodIdentity): Promise<void> {
    return this.#inTurn(async () => {
      const pod: ServedPod = { who, netns: undefined, netnsId: 'own', proxy: undefined };
      await this.#startPod(uid, pod);
      this.#pods.set(uid, pod);
    });
  }

  /** Stops all pods, whose connections may last `deadline` ms. */
  async stop(deadline: number): Promise<void> {
    this.#retry?.cancel();
    await this.#inTurn(async () => {
      for (const uid of this.#pods.keys()) this.#remove(uid, deadline);
    });
    await Promise.all(this.#stopping);
  }

  /** Pods that are served, with their namespaces, which stay ours. */
  served(): { uid: string; who: PodIdentity; netns: number }[] {
    return [...this.#pods].flatMap(([uid, { who, netns, proxy }]) => (proxy && netns !== undefined ? { uid, who, netns } : []));
  }

  /** From when this resolves until it is disposed no pod comes or goes: requests wait. */
  async hold(): Promise<Disposable> {
    const [holding, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    void this.#inTurn(() => {
      holding.resolve();
      return held.promise;
    });
    await holding.promise;
    return { [Symbol.dispose]: held.resolve };
  }

  /** Another ztunnel serves all pods: requests are refused from now on, and connections may last `deadline` ms. */
  handOver(deadline: number): void {
    this.#handedOver = true;
    this.#retry?.cancel();
    for (const uid of this.#pods.keys()) this.#remove(uid, deadline);
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #handle(request: ZdsRequest): Promise<void> {
    if (this.#handedOver) {
      if (request.kind === 'add') closeFd(request.netns);
      throw new MeshError('draining', 'another ztunnel has taken over the pods of this one');
    }
    switch (request.kind) {
      case 'add':
        return this.#add(request);
      case 'keep':
        if (!this.#snapshot) throw new MeshError('protocol_error', `keep ${request.uid} after the snapshot`);
        this.#snapshot.add(request.uid);
        return;
      case 'del':
        this.#snapshot?.delete(request.uid);
        // Before the snapshot is complete the pod is dropped with it, not one by one.
        if (!this.#snapshot || !this.#pods.get(request.uid)?.proxy) this.#remove(request.uid);
        return;
      case 'snapshot-sent':
        return this.#reconcile();
    }
  }

  async #add({ uid, who, netns }: ZdsRequest & { kind: 'add' }): Promise<void> {
    this.#snapshot?.add(uid);
    const netnsId = netnsIdentity(netns);
    const served = this.#pods.get(uid);
    if (served?.proxy && served.netnsId === netnsId) return closeFd(netns);
    if (served) this.#remove(uid);
    const pod: ServedPod = { who, netns, netnsId, proxy: undefined };
    this.#pods.set(uid, pod);
    try {
      await this.#startPod(uid, pod);
    } catch (thrown) {
      this.#scheduleRetry();
      this.onPending();
      throw new MeshError('internal', `failure to start proxy : ${MeshError.from(thrown).message}`, { cause: thrown });
    }
    this.onPending();
  }

  async #startPod(uid: string, pod: ServedPod): Promise<void> {
    const { start, clock, log } = this.#deps;
    const since = clock.monotonic();
    pod.proxy = await start(uid, pod.who, pod.netns);
    this.#started.add(1);
    const after = Math.round((clock.monotonic() - since) * 10) / 10;
    log.info('pod enrolled', { pod: `${pod.who.namespace}/${pod.who.name}`, uid, after_ms: after });
  }

  #remove(uid: string, deadline = 0): void {
    const pod = this.#pods.get(uid);
    if (!pod) return;
    this.#pods.delete(uid);
    const stopping = (pod.proxy?.stop(deadline) ?? Promise.resolve())
      .catch((thrown: unknown) => this.#deps.log.error('pod did not stop in order', { uid, error: MeshError.from(thrown) }))
      .finally(() => {
        if (pod.netns !== undefined) closeFd(pod.netns);
        this.#stopping.delete(stopping);
        if (pod.proxy) this.#stopped.add(1);
      });
    this.#stopping.add(stopping);
    this.#deps.log.info('pod removed', { pod: `${pod.who.namespace}/${pod.who.name}`, uid });
    this.onPending();
  }

  #reconcile(): void {
    if (!this.#snapshot) throw new MeshError('protocol_error', 'a second snapshot in one session');
    const named = this.#snapshot;
    this.#snapshot = undefined;
    for (const uid of this.#pods.keys()) if (!named.has(uid)) this.#remove(uid);
    this.onPending();
  }

  #scheduleRetry(): void {
    this.#retry ??= this.#deps.clock.after(RETRY_DELAY, () => {
      this.#retry = undefined;
      void this.#inTurn(() => this.#retryPending());
    });
  }

  async #retryPending(): Promise<void> {
    for (const [uid, pod] of this.#pods) {
      if (pod.proxy) continue;
      this.#retries.add(1);
      try {
        await this.#startPod(uid, pod);
      } catch (thrown) {
        this.#deps.log.warn('failure to start proxy', { uid, error: MeshError.from(thrown) });
        this.#scheduleRetry();
      }
    }
    this.onPending();
  }
}
