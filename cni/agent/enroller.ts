// Brings the pods of this node to where their labels say they belong: at the start of a sandbox (the CNI plugin asks), when a label
// or annotation changes (the informer tells), and again later when something was in the way.
import { canonicalIp } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { Informer } from '#shared/kube/informer.ts';
import type { Pod } from '#shared/kube/kinds.ts';
import { objectKey } from '#shared/kube/object.ts';
import type { ObjectWriter } from '#shared/kube/object.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { PodRules } from '../rules/pod.ts';
import { podName } from './dataplane.ts';
import type { Dataplane } from './dataplane.ts';
import { decideEnrolment, hasEnded, podRuleOptions, REDIRECTION_ANNOTATION } from './enrolment.ts';
import type { Decision, EnrolmentPolicy } from './enrolment.ts';
import type { PodQueue } from './pod-queue.ts';
import type { KnownPod, PodRegistry, SandboxRef } from './pods.ts';
import type { ProcScanner } from './proc-scan.ts';

export interface EnrollerDeps {
  nodeName: string;
  policy: EnrolmentPolicy;
  podRules: PodRules;
  informer: Informer;
  writer: Pick<ObjectWriter, 'overlay'>;
  registry: PodRegistry;
  dataplane: Dataplane;
  scanner: ProcScanner;
  queue: Pick<PodQueue, 'add' | 'later'>;
  log: Log;
}

type Redirection = 'enabled' | 'pending' | undefined;

/** When to look again (ms) where no event will tell: a sandbox without a pod, a pod without a sandbox. */
const RECHECK = 30_000;

export class Enroller {
  #deps: EnrollerDeps;
  /** What the agent last wrote on each pod. */
  #written = new Map<string, Redirection>();
  /** Pods that should be running here and were not found: told once. */
  #missing = new Set<string>();

  constructor(deps: EnrollerDeps) {
    this.#deps = deps;
  }

  decide(pod: Pod): Decision {
    const { informer, policy } = this.#deps;
    return decideEnrolment(pod, informer.get('Namespace', '', pod.metadata.namespace), policy);
  }

  /** The pods that this agent is responsible for: scheduled to its node, or with a sandbox that it was shown. */
  pods(): string[] {
    const { informer, nodeName, registry } = this.#deps;
    const scheduled = informer.list('Pod').filter((pod) => pod.spec?.nodeName === nodeName);
    return [...new Set([...scheduled.map(uidOf), ...registry.list().map((pod) => pod.uid)])];
  }

  /** UIDs that a change of this pod's object concerns: the pod's own, and that of a sandbox whose pod went. */
  named(namespace: string, name: string): string[] {
    const { informer, nodeName, registry } = this.#deps;
    const pod = informer.get('Pod', namespace, name);
    const known = registry.list().filter((other) => other.name === name && other.namespace === namespace);
    return [...(pod?.spec?.nodeName === nodeName ? [uidOf(pod)] : []), ...known.map((other) => other.uid)];
  }

  podOf(uid: string): Pod | undefined {
    const known = this.#deps.registry.get(uid);
    const named = known && this.#deps.informer.get('Pod', known.namespace, known.name);
    if (named && uidOf(named) === uid) return named;
    return this.#deps.informer.list('Pod').find((pod) => uidOf(pod) === uid);
  }

  /** A new sandbox: resolves when the pod is where it belongs, rejects when the pod must not start. Runs alone for its pod. */
  async addSandbox(pod: Pod, sandbox: SandboxRef & { netns: string; ips: readonly string[] }): Promise<Decision> {
    const { registry, dataplane, log } = this.#deps;
    const known: KnownPod = {
      uid: uidOf(pod),
      name: pod.metadata.name,
      namespace: pod.metadata.namespace,
      serviceAccount: pod.spec?.serviceAccountName ?? 'default',
      netnsPath: sandbox.netns,
      netnsId: registry.identify(sandbox.netns),
      ...(sandbox.containerId === undefined ? {} : { containerId: sandbox.containerId }),
      ips: sandbox.ips,
      enrolled: false,
      idle: false,
    };
    const decision = this.decide(pod);
    // Its DEL may never have come. The kernel gives the number of a dead namespace to the next one, so nothing that was noted about
    // the old sandbox may be taken for the new one's.
    const old = registry.get(known.uid);
    if (old?.enrolled) await dataplane.abandon(old);
    registry.put(known);
    log.info('sandbox added', { pod: podName(known), verdict: decision.verdict, reason: decision.reason });
    if (decision.verdict !== 'enrol') return decision;
    try {
      await this.#enrol(pod, known);
    } catch (error) {
      await dataplane.abandon(known);
      throw error;
    }
    return decision;
  }

  /** The sandbox goes: its rules die with it, everybody else forgets it. Runs alone for its pod. */
  async removeSandbox(known: KnownPod): Promise<void> {
    const { dataplane, registry, log } = this.#deps;
    log.info('sandbox removed', { pod: podName(known) });
    if (known.enrolled) await dataplane.release(known, false);
    else registry.forget(known.uid);
    await this.#annotate(known, undefined);
  }

  /** Compares what is with what should be and changes it. Rejects when that has to be tried again. */
  async reconcile(uid: string): Promise<void> {
    const pod = this.podOf(uid);
    const known = await this.#living(uid, pod);
    if (!pod) return;
    const decision = this.decide(pod);
    switch (decision.verdict) {
      case 'enrol': {
        const found = known ?? (await this.#findRunning(pod));
        if (found) await this.#enrol(pod, found);
        return;
      }
      case 'leave-out':
        return this.#leave(pod, known, decision.reason);
      case 'unknown':
        return;
    }
  }

  /** The rules of a pod that is captured, and should be: for the start, before any ztunnel is answered. */
  async capture(uid: string): Promise<void> {
    const pod = this.podOf(uid);
    const known = this.#deps.registry.get(uid);
    if (!pod || !known?.enrolled || known.idle || this.decide(pod).verdict !== 'enrol') return;
    await this.#deps.dataplane.capture(known, this.#rulesOf(pod));
  }

  /**
   * What is known of the pod, if its sandbox lives. Only one that is really gone is forgotten: an empty or partial list of pods
   * must not take anything out of the mesh.
   */
  async #living(uid: string, pod: Pod | undefined): Promise<KnownPod | undefined> {
    const { registry, queue } = this.#deps;
    const known = registry.get(uid);
    if (!known) return undefined;
    if (registry.isAlive(known)) {
      if (!pod) queue.later(uid, RECHECK);
      return known;
    }
    await this.removeSandbox(known);
    return undefined;
  }

  /** Also takes rules out of a pod that only its annotation remembers: the list of known pods may have been lost. */
  async #leave(pod: Pod, known: KnownPod | undefined, reason: string): Promise<void> {
    const { dataplane, queue, log } = this.#deps;
    const marked = this.#redirectionOf(pod) !== undefined;
    const found = known ?? (marked && !hasEnded(pod) ? await this.#findRunning(pod) : undefined);
    if (!found || !(found.enrolled || found.idle || marked)) return;
    // Nothing of the mesh is in a pod that no ztunnel has taken.
    if (known && !known.enrolled && !known.idle) return this.#annotate(found, undefined);
    if (marked) log.info('pod leaves the mesh', { pod: podName(found), reason });
    if (hasEnded(pod)) {
      await dataplane.release(found, false);
      return this.#annotate(found, undefined);
    }
    const again = await dataplane.leave(found, this.#rulesOf(pod));
    await this.#annotate(found, undefined);
    if (again !== undefined) return queue.later(found.uid, again);
    log.info('nothing of the mesh is left in the pod', { pod: podName(found) });
  }

  async #enrol(pod: Pod, found: KnownPod): Promise<void> {
    const { dataplane, log } = this.#deps;
    const known = this.#withAddresses(pod, found);
    const before = this.#redirectionOf(pod);
    try {
      await dataplane.enrol(known, this.#rulesOf(pod));
    } catch (error) {
      // A ztunnel that comes back serves from its snapshot what was enabled before.
      if (before !== 'enabled') await this.#annotate(known, 'pending');
      throw error;
    }
    if (before !== 'enabled') log.info('pod is in the mesh', { pod: podName(known) });
    await this.#annotate(known, 'enabled');
  }

  #rulesOf(pod: Pod): PodRules {
    const { rules, faults } = podRuleOptions(pod, this.#deps.podRules);
    for (const fault of faults) this.#deps.log.warn('annotation ignored', { pod: podName(pod.metadata), fault });
    return rules;
  }

  /** Dual-stack pods may get their second address after their sandbox. */
  #withAddresses(pod: Pod, known: KnownPod): KnownPod {
    const ips = addressesOf(pod);
    if (ips.length === 0 || ips.join() === known.ips.join()) return known;
    const changed = { ...known, ips };
    this.#deps.registry.put(changed);
    return changed;
  }

  /** A pod that started without this agent. One without an address has not got its sandbox yet: the plugin will tell. */
  async #findRunning(pod: Pod): Promise<KnownPod | undefined> {
    const { scanner, registry, queue, nodeName, log } = this.#deps;
    const uid = uidOf(pod);
    const ips = addressesOf(pod);
    if (ips.length === 0 || pod.spec?.nodeName !== nodeName) return undefined;
    const candidate = await scanner.find(uid, ips);
    if (!candidate) {
      if (!this.#missing.has(uid))
        log.warn('no process of a running pod was found', { pod: podName(pod.metadata), uid, addresses: ips.join(' ') });
      this.#missing.add(uid);
      queue.later(uid, RECHECK);
      return undefined;
    }
    this.#missing.delete(uid);
    const { name, namespace } = pod.metadata;
    const serviceAccount = pod.spec.serviceAccountName ?? 'default';
    const { netnsPath, netnsId } = candidate;
    // The annotation remembers what the list of known pods may have lost.
    const enrolled = this.#redirectionOf(pod) === 'enabled';
    const known = { uid, name, namespace, serviceAccount, netnsPath, netnsId, ips, enrolled, idle: false };
    registry.put(known);
    return known;
  }

  #redirectionOf(pod: Pod): Redirection {
    const uid = uidOf(pod);
    if (this.#written.has(uid)) return this.#written.get(uid);
    const value = pod.metadata.annotations?.[REDIRECTION_ANNOTATION];
    return value === 'enabled' || value === 'pending' ? value : undefined;
  }

  /** For people to read: a pod is not held up by it, it is written with the next event. */
  async #annotate(pod: KnownPod, value: Redirection): Promise<void> {
    if (this.#written.has(pod.uid) && this.#written.get(pod.uid) === value) return;
    // The name may be another pod's by now, and the annotation with it.
    const renamed = this.#deps.registry.list().some((other) => other.uid !== pod.uid && podName(other) === podName(pod));
    if (value === undefined && renamed) return void this.#written.delete(pod.uid);
    const key = objectKey({ kind: 'Pod', metadata: pod });
    const patch = value === undefined ? undefined : { metadata: { annotations: { [REDIRECTION_ANNOTATION]: value } } };
    try {
      await this.#deps.writer.overlay(key, patch);
      if (value === undefined) this.#written.delete(pod.uid);
      else this.#written.set(pod.uid, value);
    } catch (error) {
      this.#deps.log.warn('cannot write the annotation of a pod', { pod: podName(pod), error: MeshError.from(error) });
      this.#deps.queue.later(pod.uid, RECHECK);
    }
  }
}

/** The UID; sources that give none tell pods apart by name. */
export function uidOf(pod: Pod): string {
  return pod.metadata.uid ?? podName(pod.metadata);
}

function addressesOf(pod: Pod): string[] {
  const texts = pod.status?.podIPs?.map(({ ip }) => ip) ?? (pod.status?.podIP === undefined ? [] : [pod.status.podIP]);
  return texts.flatMap((text) => canonicalIp(text) ?? []);
}
