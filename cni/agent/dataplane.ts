// Takes a pod into the mesh and out again, in the order that neither loses nor leaks traffic (facts: cni §8). Every step may be
// repeated: whoever calls tries again after a failure.
import { MeshError } from '#shared/errors.ts';
import type { Log } from '#shared/telemetry/log.ts';
import { applyPodRules, removePodRules } from '../rules/apply.ts';
import type { PodRules } from '../rules/pod.ts';
import type { HostProbes } from './host-probes.ts';
import type { KnownPod, PodRegistry } from './pods.ts';
import type { KeptWorkload, ZdsServer, ZdsWorkload } from './zds-server.ts';

export interface DataplaneDeps {
  registry: PodRegistry;
  zds: Pick<ZdsServer, 'add' | 'remove'>;
  probes: HostProbes;
  log: Log;
}

export class Dataplane {
  #deps: DataplaneDeps;
  /** What each pod's namespace has by now: rules that are there need not be written again. */
  #captured = new Map<string, string>();
  /** Which namespace of each pod a ztunnel has acknowledged, and with which addresses. */
  #announced = new Map<string, string>();
  /** On their way out: a ztunnel that connects meanwhile must not hear of them. */
  #leaving = new Set<string>();

  constructor(deps: DataplaneDeps) {
    this.#deps = deps;
  }

  /** Step 1: the rules. From here on no new connection leaves or enters in plaintext unseen. */
  async capture(pod: KnownPod, rules: PodRules): Promise<void> {
    const { registry } = this.#deps;
    const wanted = `${pod.netnsId} ${JSON.stringify(rules)}`;
    if (this.#captured.get(pod.uid) === wanted) return;
    // Noted first: an agent that dies between the two cleans up rules that may not be there, rather than leaving some behind.
    if (!pod.enrolled) registry.put({ ...pod, enrolled: true });
    await registry.withNetns(pod, (netns) => applyPodRules(netns, rules));
    this.#captured.set(pod.uid, wanted);
  }

  /** Step 2: the newest ztunnel serves the pod. Step 3: kubelet probes reach it. */
  async announce(pod: KnownPod): Promise<void> {
    const wanted = `${pod.netnsId} ${pod.ips.join()}`;
    if (this.#announced.get(pod.uid) === wanted) return;
    await this.#deps.zds.add(this.#workload(pod));
    await this.#deps.probes.set(pod.uid, pod.ips);
    this.#announced.set(pod.uid, wanted);
  }

  /** A ztunnel could not take the pod: the next announce() is sent. */
  refused(uid: string): void {
    this.#announced.delete(uid);
  }

  /** Ends it all. `running`: the pod lives on and its rules must go; else they die with its namespace. */
  async release(pod: KnownPod, running: boolean): Promise<void> {
    const { registry, zds, probes } = this.#deps;
    this.#leaving.add(pod.uid);
    this.#captured.delete(pod.uid);
    this.#announced.delete(pod.uid);
    try {
      await probes.remove(pod.uid);
      if (running && registry.isAlive(pod)) await registry.withNetns(pod, removePodRules);
      await zds.remove(pod.uid);
      if (running) registry.put({ ...pod, enrolled: false });
      else registry.forget(pod.uid);
    } finally {
      this.#leaving.delete(pod.uid);
    }
  }

  /** Undoes a capture() and announce() that did not get to the end for a sandbox that the runtime will throw away. */
  async abandon(pod: KnownPod): Promise<void> {
    try {
      await this.release(pod, false);
    } catch (error) {
      this.#deps.log.warn('a failed pod could not be taken back', { pod: podName(pod), error: MeshError.from(error) });
      this.#deps.registry.forget(pod.uid);
    }
  }

  /** What a ztunnel hears first: the captured pods, and which of them it should keep although their namespace cannot be opened. */
  snapshot(): (ZdsWorkload | KeptWorkload)[] {
    const { registry } = this.#deps;
    const pods = registry.list().filter((pod) => pod.enrolled && !this.#leaving.has(pod.uid));
    return pods.map((pod) => (registry.isAlive(pod) ? this.#workload(pod) : { keep: pod.uid }));
  }

  #workload(pod: KnownPod): ZdsWorkload {
    const { uid, name, namespace, serviceAccount } = pod;
    return { uid, name, namespace, serviceAccount, openNetns: () => this.#deps.registry.open(pod) };
  }
}

export function podName(pod: { namespace: string; name: string }): string {
  return `${pod.namespace}/${pod.name}`;
}
