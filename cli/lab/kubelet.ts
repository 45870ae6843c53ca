// The kubelets of all nodes in one loop: Pod objects in, running pods and their status out.
import { MeshError } from '#shared/errors.ts';
import type { Pod } from '#shared/kube/kinds.ts';
import { objectKey } from '#shared/kube/object.ts';
import type { ObjectKey, ObjectWriter } from '#shared/kube/object.ts';
import type { LabPlan, NodePlan } from './plan.ts';
import type { PodRunner } from './pod/runner.ts';
import type { PodStatusPatch } from './pod/status.ts';
import { schedule } from './scheduler.ts';
import type { SchedulableNode } from './scheduler.ts';

export interface KubeletDeps {
  plan: LabPlan;
  writer: ObjectWriter;
  /** A runner that was not started. */
  newRunner(pod: Pod, node: NodePlan): PodRunner;
  nodeLabels(name: string): { labels: Record<string, string>; unschedulable: boolean };
  /** Something to see changed. */
  onChange(): void;
  warn(message: string): void;
}

interface Entry {
  runner: PodRunner;
  /** What the running pod was made from; a difference means a new pod. */
  made: string;
  /** The last status that was written. */
  written: string;
  /** Reasons that were told of already: each once, however often the pod tries again. */
  told: Set<string>;
}

/** Why a pod does not run, where waiting alone does not help. */
const FAILURES = new Set(['FailedCreatePodSandBox', 'CreateContainerConfigError', 'StartError', 'CrashLoopBackOff', 'Error']);

/** Milliseconds that a pod gets to end when the lab goes down. */
const SHUTDOWN_GRACE = 1500;

export class Kubelet {
  #deps: KubeletDeps;
  #entries = new Map<ObjectKey, Entry>();
  #stopping = new Map<ObjectKey, Promise<void>>();
  #unschedulable = new Map<ObjectKey, string>();
  #wanted = new Map<ObjectKey, Pod>();
  #closed = false;

  constructor(deps: KubeletDeps) {
    this.#deps = deps;
  }

  runners(): PodRunner[] {
    return [...this.#entries.values()].map(({ runner }) => runner);
  }

  /** Brings what runs in line with these objects. Pods that go and come again wait for their old selves to end. */
  sync(pods: readonly Pod[]): void {
    if (this.#closed) return;
    this.#wanted = new Map(pods.map((pod) => [objectKey(pod), pod]));
    for (const [key, entry] of this.#entries) {
      const pod = this.#wanted.get(key);
      if (!pod || recipe(pod) !== entry.made) this.#stop(key, entry);
    }
    for (const key of this.#unschedulable.keys()) if (!this.#wanted.has(key)) this.#unschedulable.delete(key);
    for (const [key, pod] of this.#wanted) if (!this.#entries.has(key) && !this.#stopping.has(key)) this.#start(key, pod);
  }

  /** Ends all pods. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#stopping.values(), ...this.runners().map((runner) => runner.stop(SHUTDOWN_GRACE))]);
    this.#entries.clear();
  }

  #start(key: ObjectKey, pod: Pod): void {
    let node: NodePlan | undefined;
    try {
      const name = schedule(pod, this.#nodes());
      node = this.#deps.plan.nodes.find((candidate) => candidate.name === name);
    } catch (error) {
      this.#reportUnschedulable(key, MeshError.from(error).message);
    }
    if (!node) return;
    this.#unschedulable.delete(key);
    const runner = this.#deps.newRunner(pod, node);
    this.#entries.set(key, { runner, made: recipe(pod), written: '', told: new Set() });
    this.report(runner);
    runner.start();
  }

  #stop(key: ObjectKey, entry: Entry): void {
    this.#entries.delete(key);
    const ended = entry.runner
      .stop()
      .then(() => this.#deps.writer.overlay(key, undefined))
      .catch((error: unknown) => this.#deps.warn(`${key}: ${MeshError.from(error).message}`))
      .then(() => {
        this.#stopping.delete(key);
        this.#deps.onChange();
        this.sync([...this.#wanted.values()]);
      });
    this.#stopping.set(key, ended);
  }

  /** Writes the pod's status when it is another than the last one. */
  report(runner: PodRunner): void {
    const key = objectKey(runner.pod);
    const entry = this.#entries.get(key);
    if (entry?.runner !== runner || this.#closed) return;
    const patch = { spec: { nodeName: runner.node.name }, status: runner.status() };
    const text = JSON.stringify(patch);
    if (text === entry.written) return;
    entry.written = text;
    this.#write(key, patch);
    this.#warnOnce(key, entry, patch.status);
    this.#deps.onChange();
  }

  #warnOnce(key: ObjectKey, { told }: Entry, { conditions }: PodStatusPatch): void {
    const { reason = '', message = '' } = conditions.find(({ type }) => type === 'Ready') ?? {};
    if (!FAILURES.has(reason) || told.has(reason)) return;
    told.add(reason);
    this.#deps.warn(`${key}: ${reason}: ${message}`);
  }

  #reportUnschedulable(key: ObjectKey, message: string): void {
    if (this.#unschedulable.get(key) === message) return;
    this.#unschedulable.set(key, message);
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }];
    this.#write(key, { status: { phase: 'Pending', reason: 'Unschedulable', message, conditions } });
    this.#deps.warn(`${key}: ${message}`);
  }

  #write(key: ObjectKey, patch: Record<string, unknown>): void {
    this.#deps.writer.overlay(key, patch).catch((error: unknown) => this.#deps.warn(`${key}: ${MeshError.from(error).message}`));
  }

  #nodes(): SchedulableNode[] {
    return this.#deps.plan.nodes.map((node) => ({
      name: node.name,
      ...this.#deps.nodeLabels(node.name),
      pods: this.runners().filter((runner) => runner.node === node).length,
    }));
  }
}

/** What makes a pod what it is: its spec but for the node, which the overlay of the status sets. */
function recipe(pod: Pod): string {
  const { nodeName: _chosen, ...spec } = pod.spec ?? { containers: [] };
  return JSON.stringify([pod.metadata.uid, spec]);
}
