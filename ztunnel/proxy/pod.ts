// What the handlers of a pod's connections share: the pod itself, and the process around it.
import type { Clock } from '#shared/clock.ts';
import { congestionOption } from '#shared/congestion.ts';
import { MeshError } from '#shared/errors.ts';
import type { HbonePool } from '#shared/hbone/api.ts';
import type { BufferPool } from '#shared/http2/output.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import type { TrustDomains } from '#shared/identity/trust-domains.ts';
import type { Drain } from '#shared/lifecycle/drain.ts';
import type { Specimens } from '#shared/lifecycle/specimens.ts';
import { PORT } from '#shared/ports.ts';
import type { NetnsFd, Reactor, SocketOptions } from '#shared/reactor/api.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { Balancer } from '../state/balancer.ts';
import type { Workload } from '../state/model.ts';
import type { Demand } from '../state/on-demand.ts';
import type { MeshStore } from '../state/store.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { ConnectionTelemetry } from '../telemetry/connection-result.ts';
import type { ConnectionLimit } from '#shared/lifecycle/connection-limit.ts';
import type { ConnectionTracker } from './connection-tracker.ts';
import type { HostNames } from './host-names.ts';
import type { RelayBook } from './relay-book.ts';
import type { LiveRevocations } from './live-revocations.ts';

export interface ProxyContext {
  readonly config: ZtunnelConfig;
  readonly reactor: Reactor;
  readonly store: MeshStore;
  readonly balancer: Balancer;
  /** Whose identities are those of this mesh. */
  readonly trust: TrustDomains;
  /** Undefined: the state is all there is. */
  readonly demand: Demand | undefined;
  readonly certificates: CertificateSource;
  readonly telemetry: ConnectionTelemetry;
  readonly tracker: ConnectionTracker;
  readonly limit: ConnectionLimit;
  /** Undefined: no lists are followed. */
  readonly revocations: LiveRevocations | undefined;
  readonly pods: PodDirectory;
  /** Relays that another ztunnel could go on with. */
  readonly relays: RelayBook;
  /** Hosts that the mesh knows by name only. */
  readonly names: HostNames;
  readonly clock: Clock;
  readonly log: Log;
  /** Of each kind of connection. */
  readonly specimens: Specimens;
  /** Lent to all HTTP/2 sessions in turn. */
  readonly buffers: BufferPool;
  /** A pool for one pod: tunnels are not shared between pods. */
  newPool(): HbonePool;
}

export interface Pod {
  /** As the CNI agent names it. */
  readonly uid: string;
  readonly who: PodIdentity;
  readonly netns: NetnsFd;
  readonly pool: HbonePool;
  readonly drain: Drain;
  /** Whether its listeners could be made transparent: then sockets towards the application may bear the client's address. */
  transparent: boolean;
}

/** The captured pods of this node. */
export class PodDirectory {
  #pods = new Map<string, Pod>();
  /** Who waits for a pod that is not served yet, by its key. */
  #awaited = new Map<string, PromiseWithResolvers<Pod | undefined>>();

  add(pod: Pod): Disposable {
    const key = keyOf(pod.who);
    this.#pods.set(key, pod);
    this.#awaited.get(key)?.resolve(pod);
    return {
      [Symbol.dispose]: () => {
        if (this.#pods.get(key) === pod) this.#pods.delete(key);
      },
    };
  }

  all(): Iterable<Pod> {
    return this.#pods.values();
  }

  find(who: PodIdentity): Pod | undefined {
    return this.#pods.get(keyOf(who));
  }

  /** Once it is served; undefined when it is not `ms` after somebody first asked. */
  async soon(who: PodIdentity, clock: Clock, ms: number): Promise<Pod | undefined> {
    const key = keyOf(who);
    let awaited = this.#awaited.get(key);
    if (!awaited) {
      awaited = Promise.withResolvers();
      this.#awaited.set(key, awaited);
      const timer = clock.after(ms, () => awaited?.resolve(undefined));
      void awaited.promise.then(() => {
        timer.cancel();
        this.#awaited.delete(key);
      });
    }
    return this.#pods.get(key) ?? (await awaited.promise);
  }
}

function keyOf({ namespace, name, serviceAccount }: PodIdentity): string {
  return `${namespace}/${name}/${serviceAccount}`;
}

/** How long a pod's own workload may take to arrive from the control plane, ms. */
const LOCAL_WORKLOAD_TIMEOUT = 5000;

/** The mesh's view of the pod; rejects with `unknown_source` when the control plane does not send it in time. */
export async function workloadOf(pod: Pod, { store }: ProxyContext): Promise<Workload> {
  const known = store.workloads.localPod(pod.who);
  if (known) return known;
  const signal = AbortSignal.any([pod.drain.force, AbortSignal.timeout(LOCAL_WORKLOAD_TIMEOUT)]);
  const found = await store.waitForLocal(pod.who, signal);
  if (found) return found;
  const { serviceAccount, namespace, name } = pod.who;
  throw new MeshError(
    'unknown_source',
    `failed to fetch information about local workload: ${serviceAccount}.${namespace} (${name})`,
  );
}

const CAPTURE_PORTS: ReadonlySet<number> = new Set([PORT.outbound, PORT.inboundPlaintext, PORT.hbone]);

/** Ports that are this ztunnel's own in every pod: traffic sent to one would come back for ever. */
export function isCapturePort(port: number, { socks5 }: Pick<ZtunnelConfig, 'socks5'>): boolean {
  return CAPTURE_PORTS.has(port) || (socks5 && port === PORT.socks5);
}

export function isLoopback(ip: string): boolean {
  return ip.startsWith('127.') || ip === '::1';
}

/** Options of every socket that is opened inside the pod; the mark lets it past the redirect rules. */
export function podSocket(pod: Pick<Pod, 'netns'>, { config }: Pick<ProxyContext, 'config'>): SocketOptions {
  return {
    ...(pod.netns === undefined ? {} : { netns: pod.netns }),
    ...(config.packetMark === undefined ? {} : { mark: config.packetMark }),
    ...(config.keepalive ? { keepalive: config.keepalive } : {}),
    ...(config.userTimeout === undefined ? {} : { userTimeout: config.userTimeout }),
  };
}

/** Of those that carry tunnels within the network, and of those with clients in the pod. Towards other networks the kernel's congestion control stays. */
export function tunnelSocket(pod: Pick<Pod, 'netns'>, context: Pick<ProxyContext, 'config'>): SocketOptions {
  return { ...podSocket(pod, context), ...congestionOption(context.config.congestion) };
}
