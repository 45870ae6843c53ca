// Takes a pod into the mesh and out again, in the order that neither loses nor leaks traffic (facts: cni §8). Every step may be
// repeated: whoever calls tries again after a failure.
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Log } from '#shared/telemetry/log.ts';
import { applyPodRules, capturePod, leavePodRules, preparePod, removePodRules } from '../rules/apply.ts';
import { hasOpenConnections } from '../rules/connections.ts';
import type { PodRules } from '../rules/pod.ts';
import type { HostProbes } from './host-probes.ts';
import type { KnownPod, PodRegistry } from './pods.ts';
import type { KeptWorkload, ZdsServer, ZdsWorkload } from './zds-server.ts';

/** How long what passes through the ztunnel may take to end after the pod has left, ms. */
export interface LeaveTimes {
  /** No less, because something is on its way: tunnels that others open, and what the kernel remembers of names that were asked for. */
  readonly minimum: number;
  readonly timeout: number;
}

export interface DataplaneDeps {
  registry: PodRegistry;
  zds: Pick<ZdsServer, 'requireZtunnel' | 'add' | 'remove'>;
  probes: Pick<HostProbes, 'set' | 'remove'>;
  leave: LeaveTimes;
  clock: Clock;
  log: Log;
}

/** Between two looks for connections that are open, ms: each costs a process. */
const LOOK_AGAIN = 10_000;

export class Dataplane {
  #deps: DataplaneDeps;
  /** What each pod's namespace has by now: rules that are there need not be written again. */
  #captured = new Map<string, string>();
  /** Which namespace of each pod a ztunnel has acknowledged, and with which addresses. */
  #announced = new Map<string, string>();
  /** On their way in: a ztunnel that connects meanwhile must hear of them. */
  #joining = new Set<string>();
  /** Out of the mesh but for what was open, since when (ms). */
  #left = new Map<string, number>();
  /** On their way out: a ztunnel that connects meanwhile must not hear of them. */
  #leaving = new Set<string>();

  constructor(deps: DataplaneDeps) {
    this.#deps = deps;
  }

  /**
   * Takes the pod in: routes, chains and the marks of kubelet probes, which change nothing yet; then the newest ztunnel serves it; then new connections
   * are captured. Whatever a running pod opens until then goes on as before: in this order nothing is sent where nobody listens. A pod that is
   * captured stays so, whatever its ztunnel says.
   */
  async enrol(pod: KnownPod, rules: PodRules): Promise<void> {
    if (!pod.enrolled || pod.idle) return this.#join(pod, rules);
    await this.capture(pod, rules);
    return this.#announce(pod);
  }

  async #join(pod: KnownPod, rules: PodRules): Promise<void> {
    const { registry, zds } = this.#deps;
    if (this.#announced.get(pod.uid) !== announcementOf(pod)) zds.requireZtunnel();
    this.#joining.add(pod.uid);
    try {
      if (!pod.enrolled) {
        // Noted first: an agent that dies here leaves to the next one what it has to clean up.
        registry.put({ ...pod, idle: true });
        await registry.withNetns(pod, (netns) => preparePod(netns, rules));
      }
      await this.#announce(pod);
      await this.#redirect(pod, rules, pod.enrolled ? applyPodRules : capturePod);
    } catch (error) {
      if (!registry.get(pod.uid)?.enrolled) await this.#unprepare(pod);
      throw error;
    } finally {
      this.#joining.delete(pod.uid);
    }
  }

  async #unprepare(pod: KnownPod): Promise<void> {
    const { registry, probes, log } = this.#deps;
    try {
      await probes.remove(pod.uid);
      if (registry.isAlive(pod)) await registry.withNetns(pod, removePodRules);
      registry.put({ ...pod, idle: false });
    } catch (error) {
      log.warn('what a pod that did not join was given could not be taken back', {
        pod: podName(pod),
        error: MeshError.from(error),
      });
    }
  }

  /** Routes and rules alone: of a pod that was captured before, which the next ztunnel hears of by its snapshot. */
  capture(pod: KnownPod, rules: PodRules): Promise<void> {
    return this.#redirect(pod, rules, applyPodRules);
  }

  async #redirect(pod: KnownPod, rules: PodRules, apply: typeof applyPodRules): Promise<void> {
    const { registry } = this.#deps;
    const wanted = `${pod.netnsId} ${JSON.stringify(rules)}`;
    if (this.#captured.get(pod.uid) === wanted) return;
    if (!pod.enrolled || pod.idle) registry.put({ ...pod, enrolled: true, idle: false });
    this.#left.delete(pod.uid);
    await registry.withNetns(pod, (netns) => apply(netns, rules));
    this.#captured.set(pod.uid, wanted);
  }

  async #announce(pod: KnownPod): Promise<void> {
    const wanted = announcementOf(pod);
    if (this.#announced.get(pod.uid) === wanted) return;
    this.#announced.set(pod.uid, 'asked');
    await this.#deps.probes.set(pod.uid, pod.ips);
    await this.#deps.zds.add(this.#workload(pod));
    // A ztunnel that came meanwhile may have refused it.
    if (this.#announced.get(pod.uid) === 'asked') this.#announced.set(pod.uid, wanted);
  }

  /** How many pods have left but for what was open. */
  get leaving(): number {
    return this.#left.size;
  }

  /** A ztunnel could not take the pod: the next announce() is sent. */
  refused(uid: string): void {
    this.#announced.delete(uid);
  }

  /**
   * Takes a running pod out: new connections pass the ztunnel by, at once; those that are open go on through it. When the last of them has
   * ended, or has had its time, nothing of the mesh is left, and this returns undefined; until then, in how many ms to ask again.
   */
  async leave(pod: KnownPod, rules: PodRules): Promise<number | undefined> {
    const { registry, probes, clock, leave } = this.#deps;
    const since = this.#left.get(pod.uid);
    if (since === undefined) {
      // Noted first, also of a pod that was found by its annotation alone: that goes now.
      registry.put({ ...pod, enrolled: true, idle: true });
      this.#captured.delete(pod.uid);
      // Its probes are no longer marked: should it come back, all is said anew.
      this.#announced.delete(pod.uid);
      await registry.withNetns(pod, (netns) => leavePodRules(netns, rules));
      await probes.remove(pod.uid);
      this.#left.set(pod.uid, clock.monotonic());
      return leave.minimum;
    }
    const passed = clock.monotonic() - since;
    if (passed < leave.minimum) return leave.minimum - passed;
    const open = passed < leave.timeout && (await registry.withNetns(pod, hasOpenConnections));
    if (open) return LOOK_AGAIN;
    await this.release(pod, true);
    return undefined;
  }

  /** Ends it all. `running`: the pod lives on and its rules must go; else they die with its namespace. */
  async release(pod: KnownPod, running: boolean): Promise<void> {
    const { registry, zds, probes } = this.#deps;
    this.#leaving.add(pod.uid);
    this.#captured.delete(pod.uid);
    this.#announced.delete(pod.uid);
    try {
      await probes.remove(pod.uid);
      await zds.remove(pod.uid);
      // Not before: the ztunnel's RST reaches who waits for an answer only while addresses are translated.
      if (running && registry.isAlive(pod)) await registry.withNetns(pod, removePodRules);
      this.#left.delete(pod.uid);
      if (running) registry.put({ ...pod, enrolled: false, idle: false });
      else registry.forget(pod.uid);
    } finally {
      this.#leaving.delete(pod.uid);
    }
  }

  /** Undoes an enrol() that did not get to the end for a sandbox that the runtime will throw away. */
  async abandon(pod: KnownPod): Promise<void> {
    try {
      await this.release(pod, false);
    } catch (error) {
      this.#deps.log.warn('a failed pod could not be taken back', { pod: podName(pod), error: MeshError.from(error) });
      this.#left.delete(pod.uid);
      this.#deps.registry.forget(pod.uid);
    }
  }

  /** What a ztunnel hears first: the pods of the mesh, and which of them it should keep although their namespace cannot be opened. */
  snapshot(): (ZdsWorkload | KeptWorkload)[] {
    const { registry } = this.#deps;
    const pods = registry.list().filter((pod) => (pod.enrolled || this.#joining.has(pod.uid)) && !this.#leaving.has(pod.uid));
    return pods.map((pod) => (registry.isAlive(pod) ? this.#workload(pod) : { keep: pod.uid }));
  }

  #workload(pod: KnownPod): ZdsWorkload {
    const { uid, name, namespace, serviceAccount } = pod;
    return { uid, name, namespace, serviceAccount, openNetns: () => this.#deps.registry.open(pod) };
  }
}

function announcementOf({ netnsId, ips }: KnownPod): string {
  return `${netnsId} ${ips.join()}`;
}

export function podName(pod: { namespace: string; name: string }): string {
  return `${pod.namespace}/${pod.name}`;
}
