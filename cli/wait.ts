// Waits until pods are as wanted: for `culvert wait` and `culvert up --wait`.
import { setTimeout as sleep } from 'node:timers/promises';
import { MeshError } from '#shared/errors.ts';
import type { Pod } from '#shared/kube/kinds.ts';
import { openCluster } from './cluster.ts';
import { isReady } from './lab/endpoints.ts';

export interface WaitOptions {
  /** Milliseconds. */
  timeout: number;
  /** Default: all. */
  namespaces?: readonly string[];
  /** Pods by name; default: all. */
  names?: readonly string[];
  /** What a pod must be; default: ready, or ended well. Undefined when it is, else what it is instead. */
  lacks?: (pod: Pod) => string | undefined;
  /** Told at every look how many of the pods are as wanted. */
  progress?: (done: number, total: number) => void;
}

/** How many pods were waited for. Throws with what each of the others lacks when the time is over. */
export async function waitForPods(runDir: string, options: WaitOptions): Promise<number> {
  const { timeout, namespaces, names, lacks = lacksReadiness, progress } = options;
  const end = performance.now() + timeout;
  for (;;) {
    const cluster = await openCluster(runDir);
    const pods = (await cluster.objects())
      .list('Pod')
      .filter(({ metadata }) => (namespaces?.includes(metadata.namespace) ?? true) && (names?.includes(metadata.name) ?? true));
    const missing = (names ?? []).filter((name) => !pods.some(({ metadata }) => metadata.name === name));
    const left = [
      ...missing.map((name) => `pod ${name}: does not exist`),
      ...pods.flatMap((pod) => {
        const lack = lacks(pod);
        return lack === undefined ? [] : [`pod ${pod.metadata.namespace}/${pod.metadata.name}: ${lack}`];
      }),
    ];
    progress?.(pods.length + missing.length - left.length, pods.length + missing.length);
    if (left.length === 0) return pods.length;
    if (performance.now() > end) throw new MeshError('internal', `waited ${timeout / 1000} s in vain for\n${left.join('\n')}`);
    await sleep(150);
  }
}

function lacksReadiness(pod: Pod): string | undefined {
  if (isReady(pod) || pod.status?.phase === 'Succeeded') return undefined;
  const condition = pod.status?.conditions?.find(({ type }) => type === 'Ready');
  return [pod.status?.phase ?? 'Pending', condition?.reason ?? pod.status?.reason, condition?.message ?? pod.status?.message]
    .filter((part) => part !== undefined && part !== '')
    .join(': ');
}
