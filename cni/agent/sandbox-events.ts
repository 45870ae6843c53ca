// What the CNI plugin asks for: a sandbox comes, goes, or is looked at. The plugin waits and does what it is told.
import { MeshError } from '#shared/errors.ts';
import type { Informer } from '#shared/kube/informer.ts';
import type { Pod } from '#shared/kube/kinds.ts';
import { verifyPodRules } from '../rules/apply.ts';
import type { PodRules } from '../rules/pod.ts';
import { uidOf } from './enroller.ts';
import type { Enroller } from './enroller.ts';
import type { Decision } from './enrolment.ts';
import { podRuleOptions } from './enrolment.ts';
import type { PodQueue } from './pod-queue.ts';
import type { PodRegistry, SandboxRef } from './pods.ts';

export interface Sandbox extends SandboxRef {
  netns: string;
  ips: readonly string[];
}

export interface SandboxEventsDeps {
  informer: Informer;
  registry: PodRegistry;
  enroller: Enroller;
  queue: Pick<PodQueue, 'exclusive' | 'add'>;
  podRules: PodRules;
}

/** How long the object of a pod may lag behind its sandbox (ms). */
const POD_WAIT = 2500;

export class SandboxEvents {
  #deps: SandboxEventsDeps;

  constructor(deps: SandboxEventsDeps) {
    this.#deps = deps;
  }

  /** Rejects when the pod must not start: it is not known, or belongs in the mesh and cannot be put there. */
  async add(sandbox: Sandbox): Promise<Decision> {
    const pod = await this.#awaitPod(sandbox);
    return this.#deps.queue.exclusive(uidOf(pod), () => this.#deps.enroller.addSandbox(this.#find(sandbox) ?? pod, sandbox));
  }

  /** An unknown sandbox has been removed already: DEL may come more than once. */
  async remove(sandbox: SandboxRef): Promise<void> {
    const known = this.#deps.registry.find(sandbox);
    if (known) await this.#remove(known.uid, sandbox);
  }

  /** Rejects with what is wrong. */
  async check(sandbox: SandboxRef): Promise<void> {
    const { registry, enroller, podRules } = this.#deps;
    const name = `${sandbox.podNamespace}/${sandbox.podName}`;
    const known = registry.find(sandbox);
    if (!known) throw new MeshError('not_found', `the agent does not know this sandbox of pod ${name}`);
    const pod = enroller.podOf(known.uid);
    if (!pod || enroller.decide(pod).verdict !== 'enrol') return;
    await registry.withNetns(known, (netns) => verifyPodRules(netns, podRuleOptions(pod, podRules).rules));
  }

  /** Forgets the sandboxes that the runtime no longer has. Those it never named are left alone. */
  async collect(validContainers: readonly string[]): Promise<void> {
    const valid = new Set(validContainers);
    for (const { uid, name, namespace, containerId } of this.#deps.registry.list())
      if (containerId !== undefined && !valid.has(containerId))
        await this.#remove(uid, { podName: name, podNamespace: namespace, containerId });
  }

  async #remove(uid: string, sandbox: SandboxRef): Promise<void> {
    const { queue, registry, enroller } = this.#deps;
    try {
      await queue.exclusive(uid, async () => {
        // A newer sandbox of the pod may have come while this waited for its turn.
        const current = registry.find(sandbox);
        if (current?.uid === uid) await enroller.removeSandbox(current);
      });
    } catch (error) {
      queue.add(uid);
      throw error;
    }
  }

  #find({ podNamespace, podName, podUid }: SandboxRef): Pod | undefined {
    const pod = this.#deps.informer.get('Pod', podNamespace, podName);
    return pod && isSamePod(pod, podUid) ? pod : undefined;
  }

  async #awaitPod(sandbox: SandboxRef): Promise<Pod> {
    const found = Promise.withResolvers<Pod | undefined>();
    const look = (): void => {
      const pod = this.#find(sandbox);
      if (pod) found.resolve(pod);
    };
    const stop = this.#deps.informer.onChange(look);
    const timer = setTimeout(() => found.resolve(undefined), POD_WAIT);
    look();
    try {
      const pod = await found.promise;
      if (pod) return pod;
    } finally {
      stop();
      clearTimeout(timer);
    }
    const { podNamespace, podName, podUid } = sandbox;
    const uid = podUid === undefined ? '' : ` with UID ${podUid}`;
    throw new MeshError('not_found', `pod ${podNamespace}/${podName}${uid} is not among the objects that the agent sees`);
  }
}

/** Static pods have a UID of the kubelet's, which their object in the API server has as an annotation. */
function isSamePod(pod: Pod, uid: string | undefined): boolean {
  const { uid: objectUid, annotations } = pod.metadata;
  return uid === undefined || objectUid === undefined || objectUid === uid || annotations?.['kubernetes.io/config.hash'] === uid;
}
